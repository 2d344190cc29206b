/* Inside core/console only. */
#ifndef CORE_CONSOLE_PRIVATE_H
#define CORE_CONSOLE_PRIVATE_H

#include "core/console.h"
#include "core/log.h"

/* Appends to the ring and sends to every driver. Takes the console lock unless in panic mode. */
void console_emit(const char *s, size_t n, bool to_ring, bool to_drivers);
/* Only to the drivers, and only to those that take all of it without waiting. */
void console_emit_if_room(const char *s, size_t n);
/* Bytes that all drivers take without waiting. */
size_t console_room(void);
/* aside.c: whether this CPU is in such a handler, and the same as console_emit for it. Takes no lock. */
bool console_in_nmi(void);
void console_set_aside(const char *s, size_t n, bool to_ring, bool to_drivers);
/* What waits is printed. */
void console_print_aside(void);
/* Input that is meant for the hardware domain: up to n bytes, returns the number taken. */
size_t console_input_take(char *to, size_t n);

#endif
