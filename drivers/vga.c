/*
 * VGA 80x25 text console: scrolls, no escape sequences. A UEFI framebuffer is not driven: the serial console is, and
 * dom0 gets the framebuffer's description.
 */
#include "drivers/vga.h"
#include "drivers/uart.h"
#include "core/console.h"
#include "core/console_io.h"
#include "core/params.h"
#include "lib/string.h"
#include "x86/platform.h"

#define COLUMNS 80
#define ROWS    25
#define BLANK   0x0720 /* grey on black */

static volatile uint16_t *screen;
static unsigned row, column;
static bool keep, released;

static bool opt_vga(const char *s)
{
    for (; s; s = strchr(s, ',') ? strchr(s, ',') + 1 : NULL) {
        size_t n = strchr(s, ',') ? (size_t)(strchr(s, ',') - s) : strlen(s);

        if (n == 4 && !strncmp(s, "keep", 4))
            keep = true;
        else if (!((n == 10 && !strncmp(s, "text-80x25", 10)) || (n == 7 && !strncmp(s, "current", 7))))
            return false;
    }
    return true;
}
PARAM_CUSTOM("vga", opt_vga, "text-80x25 or current, and keep: go on writing after dom0 has started");

static void cursor(void)
{
    uint16_t at = (uint16_t)(row * COLUMNS + column);

    port_out(0x3d4, 1, 14);
    port_out(0x3d5, 1, at >> 8);
    port_out(0x3d4, 1, 15);
    port_out(0x3d5, 1, at & 0xff);
}

static void scroll(void)
{
    for (unsigned i = 0; i < (ROWS - 1) * COLUMNS; i++)
        screen[i] = screen[i + COLUMNS];
    for (unsigned i = (ROWS - 1) * COLUMNS; i < ROWS * COLUMNS; i++)
        screen[i] = BLANK;
}

static void newline(void)
{
    column = 0;
    if (++row == ROWS) {
        row--;
        scroll();
    }
}

static void vga_write(const char *s, size_t n)
{
    if (released)
        return;
    for (; n--; s++) {
        if (*s == '\r') {
            column = 0;
        } else if (*s == '\n') {
            newline();
        } else {
            screen[row * COLUMNS + column] = (uint16_t)(0x0700 | (uint8_t)*s);
            if (++column == COLUMNS)
                newline();
        }
    }
    cursor();
}

/* Scrolling takes milliseconds: guests' lines are not shown here. */
static size_t vga_room(void)
{
    return released ? SIZE_MAX : 0;
}

void vga_panic(void)
{
    released = false;
}

static struct console_driver driver = {
    .name = "vga", .write = vga_write, .flush = vga_panic, .room = vga_room};

void vga_init(volatile uint16_t *text)
{
    screen = text;
    for (unsigned i = 0; i < ROWS * COLUMNS; i++)
        screen[i] = BLANK;
    if (console_wanted("vga"))
        console_register(&driver);
}

void vga_release(void)
{
    if (!screen || keep || !console_wanted("vga"))
        return;
    console_printf("(KRY) VGA console is dom0's now (vga=keep keeps it)\n");
    released = true;
}
