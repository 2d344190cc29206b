/* VGA 80x25 text console. */
#ifndef DRIVERS_VGA_H
#define DRIVERS_VGA_H

#include "core/types.h"

/* Registers the console if console= names vga and `text` memory (0xb8000, mapped) is a working text mode. */
void vga_init(volatile uint16_t *text);
/* dom0 is about to own the display: stop writing unless vga=keep. */
void vga_release(void);
/* A panic takes the screen back. */
void vga_panic(void);

#endif
