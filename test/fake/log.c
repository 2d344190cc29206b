/* Log, panic and console of the host builds: to stderr when FAKE_LOG is set, and a panic can be expected. */
#include "fake.h"
#include "core/console.h"
#include "core/lock.h"
#include "fake_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool fake_panic_expected;
jmp_buf fake_panic_env;
char fake_last_log[256];
unsigned fake_log_lines;
static char panic_text[512];

static bool verbose(void)
{
    static int on = -1;

    if (on < 0)
        on = getenv("FAKE_LOG") != NULL;
    return on;
}

static void line(const char *fmt, va_list ap)
{
    vsnprintf(fake_last_log, sizeof(fake_last_log), fmt, ap);
    fake_log_lines++;
    if (verbose())
        fprintf(stderr, "[%u] %s\n", fake_cpu, fake_last_log);
}

weak void log_line(enum log_level level, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    line(fmt, ap);
    va_end(ap);
}
weak void log_guest(did_t id, enum log_level level, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    line(fmt, ap);
    va_end(ap);
}
weak bool log_guest_text_wanted(void)
{
    return true;
}

weak void log_guest_text(did_t id, const char *text, unsigned dropped)
{
    log_guest(id, LOG_INFO, "%s", text);
}
weak void panic(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(panic_text, sizeof(panic_text), fmt, ap);
    va_end(ap);
    lock_forget_all();
    if (fake_panic_expected)
        longjmp(fake_panic_env, 1);
    fprintf(stderr, "panic on CPU %u: %s\n", fake_cpu, panic_text);
    abort();
}

void fake_panic_check(const char *text)
{
    if (!strstr(panic_text, text))
        fail_msg("panic says \"%s\", expected \"%s\"", panic_text, text);
}

weak void console_printf(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    line(fmt, ap);
    va_end(ap);
}
weak void debug_key_register(char key, const char *what, void (*fn)(void))
{
}
weak void console_panic_mode(void)
{
}
