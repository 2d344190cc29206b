/* Fuzz target: the command line, numbers and sizes from text. */
#include "fake.h"
#include "core/params.h"
#include "lib/parse.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool flag;
static unsigned number;
static uint64_t bytes;
static char text[8];
static unsigned custom_calls;

static bool custom(const char *value)
{
    custom_calls += (unsigned)strlen(value);
    return value[0] != '!';
}
PARAM_BOOL("a", flag, "a flag");
PARAM_UINT("n", number, "a number");
PARAM_SIZE("s", bytes, "a size");
PARAM_STRING("t", text, "a text");
PARAM_CUSTOM("c", custom, "anything");

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *line = malloc(size + 1);
    const char *end;
    uint64_t v;

    memcpy(line, data, size);
    line[size] = 0;
    params_parse(line);
    BUG_ON(strlen(text) >= sizeof(text) || strlen(params_rest()) > strlen(line));
    BUG_ON(strlen(saved_cmdline) >= sizeof(saved_cmdline));
    (void)param_size(line, &end);
    BUG_ON(end < line || end > line + strlen(line));
    for (unsigned base = 0; base <= 16; base += base == 0 ? 2 : 2) {
        (void)parse_u64(line, &end, base);
        BUG_ON(end < line || end > line + strlen(line));
        (void)parse_u64_all(line, base, &v);
    }
    free(line);
    return 0;
}
