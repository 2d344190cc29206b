/*
 * Log, panic, assertions. log_* may be called anywhere, also with interrupts off and from NMI context
 * (then the line comes a moment later: console_nmi_begin). Lines go to the log ring and, by loglvl=, to the consoles.
 */
#ifndef CORE_LOG_H
#define CORE_LOG_H

#include "core/types.h"

enum log_level { LOG_ERR = 0, LOG_WARN = 1, LOG_INFO = 2, LOG_DEBUG = 3 };

void log_line(enum log_level level, const char *fmt, ...) printf_like(2, 3);
/* The same for what a guest can cause: prefixed dN, by guest_loglvl=, rate-limited. id may be DOMID_INVALID. */
void log_guest(did_t id, enum log_level level, const char *fmt, ...) printf_like(3, 4);

/* A line that a guest wrote for us to see (CONSOLEIO_write), after `dropped` others that it wrote too fast: at level info, on the
 * consoles that have room for it, not in the ring. Whoever calls has seen to it that a guest does not come here too often. */
bool log_guest_text_wanted(void);
void log_guest_text(did_t id, const char *text, unsigned dropped);

#define log_err(...)   log_line(LOG_ERR, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)

/* We are wrong: print registers and a call trace, stop every CPU, stay on the screen (or reboot by reboot=). */
__attribute__((noreturn)) void panic(const char *fmt, ...) printf_like(1, 2);

#define BUG_ON(c)                                                                                            \
    do {                                                                                                     \
        if (unlikely(c))                                                                                     \
            panic("BUG at %s:%d: %s", __FILE__, __LINE__, #c);                                               \
    } while (0)
#ifdef DEBUG
#define ASSERT(c) BUG_ON(!(c))
#else
#define ASSERT(c) ((void)sizeof(c))
#endif

#endif
