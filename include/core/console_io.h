/* The console_io hypercall's table, and console set-up. */
#ifndef CORE_CONSOLE_IO_H
#define CORE_CONSOLE_IO_H

#include "core/console.h"
#include "core/hypercall.h"

extern const struct hc_op console_ops[];
extern const unsigned console_op_count;

void console_input_init(void); /* once, after work.h is usable */
void console_unregister(struct console_driver *drv);
void console_flush(void); /* waits until the drivers have sent everything */
/* Is the console named in console=? (drivers/uart.c) */
bool console_wanted(const char *name);

#endif
