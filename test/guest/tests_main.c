/*
 * Runs every TEST() of the program in link order, then, with the word domu-too in the command line, each once more in an
 * ordinary domain made by toolstack.c, but those that need what only a hardware domain has. only=PREFIX selects by name.
 */
#include "toolstack.h"

extern const struct test tests_start[], tests_end[];

/* Those of toolstack.h make domains themselves. */
static bool needs_domains(const char *name)
{
    return !strncmp(name, "domu_", 5);
}

/* Tests of what only a hardware domain has. */
static bool needs_hardware(const char *name)
{
    static const char *const those[] = {"control_", "device_memory", "io_",      "m2p_frames",
                                        "pci_",     "pirq_",         "physdev_", "platform_"};

    for (unsigned i = 0; i < ARRAY_SIZE(those); i++)
        if (!strncmp(name, those[i], strlen(those[i])))
            return true;
    return needs_domains(name);
}

static bool selected(const char *name)
{
    return asked_for((const char *)start_info->cmd_line, "only=", name, true);
}

void guest_program(void)
{
    if (!hardware_domain)
        hostile_program();
    print("krypton-test: %u tests\n", (unsigned)(tests_end - tests_start));
    for (unsigned pass = 0; pass < 2; pass++) /* those with a healthy domain beside come later */
        for (const struct test *t = tests_start; t < tests_end; t++)
            if (selected(t->name) && needs_domains(t->name) == pass) {
                test_begin();
                t->fn();
                test_end(t->name, "");
            }
    for (const struct test *t = tests_start; t < tests_end; t++)
        if (strstr((const char *)start_info->cmd_line, "domu-too") && selected(t->name) &&
            !needs_hardware(t->name)) {
            test_begin();
            test_run_as_domu((unsigned)(t - tests_start));
            test_end(t->name, " (domU)");
        }
    print("krypton-test: %u passed, %u failed\n", tests_passed, tests_failed);
}
