/* Runs every TEST() of the program in link order. A word in the command line, only=PREFIX, selects by name. */
#include "guest.h"

extern const struct test tests_start[], tests_end[];

void guest_program(void)
{
    const char *only = strstr((const char *)start_info->cmd_line, "only=");
    unsigned passed = 0, failed = 0;

    print("krypton-test: %u tests\n", (unsigned)(tests_end - tests_start));
    for (const struct test *t = tests_start; t < tests_end; t++) {
        size_t n = only ? strlen(only + 5) : 0;

        if (only && strchr(only, ' '))
            n = (size_t)(strchr(only, ' ') - only) - 5;
        if (only && strncmp(t->name, only + 5, n))
            continue;
        test_failed = false;
        trap_hook = NULL;
        event_hook = NULL;
        t->fn();
        print("%s %s\n", test_failed ? "FAIL" : "PASS", t->name);
        *(test_failed ? &failed : &passed) += 1;
    }
    print("krypton-test: %u passed, %u failed\n", passed, failed);
}
