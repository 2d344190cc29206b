/* The console_io hypercall's table, and console set-up. */
#ifndef CORE_CONSOLE_IO_H
#define CORE_CONSOLE_IO_H

#include "core/console.h"
#include "core/hypercall.h"

extern const struct hc_op console_ops[];
extern const unsigned console_op_count;

/* What a domain other than the hardware's writes for people to read, by whatever way: lines on the consoles, prefixed (dN), within the
 * domain's budget. d->lock not held. */
void console_guest_text(struct domain *d, const char *buf, uint32_t n);

void console_input_init(void); /* once, after work.h is usable */
void console_unregister(struct console_driver *drv);
void console_flush(void); /* waits until the drivers have sent everything */
/* Is the console named in console=? (drivers/uart.c) */
bool console_wanted(const char *name);

#endif
