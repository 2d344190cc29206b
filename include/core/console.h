/*
 * Console: the log ring, the consoles behind it (drivers register), input switching and debug keys, console_io.
 */
#ifndef CORE_CONSOLE_H
#define CORE_CONSOLE_H

#include "core/types.h"

struct domain;

struct console_driver {
    const char *name;
    void (*write)(const char *s, size_t n); /* may be called in any context, also panic */
    void (*flush)(void);                    /* panic: wait until it is out */
    size_t (*room)(void); /* bytes that write() takes at once without waiting for its device; NULL = any */
    struct console_driver *next;
};
void console_register(struct console_driver *drv);
/* loglvl=, guest_loglvl= as "none|error|warning|info|debug|all" or "lower/upper". False if not understood. */
bool console_set_level(const char *value, bool guest);
void console_set_sync(bool sync);
/* Input byte from a driver (interrupt context): Ctrl-A three times switches between dom0 and Krypton. */
void console_input(char c);
/* Around what handles an NMI or a machine check: between both, on this CPU, what is logged takes no lock and is printed by deferred
 * work, which the handler's caller must make the CPU look for. They nest. */
void console_nmi_begin(void);
void console_nmi_end(void);
/* Panic mode: no locks, everything synchronous. */
void console_panic_mode(void);
/* Copies the ring (xl dmesg): up to n bytes from *index (in/out; one that is not in the ring means its oldest byte); returns the
 * number copied. clear: what lies before the new *index is not read again. */
size_t console_ring_read(char *to, size_t n, uint32_t *index, bool clear);
/* Output without level or prefix (debug keys, panic). */
void console_printf(const char *fmt, ...) printf_like(1, 2);

/* Debug keys: a room registers a letter. */
void debug_key_register(char key, const char *what, void (*fn)(void));
void debug_key(char key);

#endif
