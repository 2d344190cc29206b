/*
 * 16550A serial ports as console. Output goes through a ring that the transmit interrupt drains, so that a
 * guest's or our own chatter does not stop a CPU for 87 us a character; polled before interrupts work, with
 * sync_console, in a panic, and when the ring is full.
 *
 * What guests write comes only while half of the ring is free (uart_room): it never makes anybody wait.
 *
 * Invariants: tx_prod - tx_cons <= TX_SIZE; the transmit interrupt is enabled exactly while the ring is not
 * empty. Locks: uart.lock (RANK_UART, interrupts off), except in a panic.
 */
#include "drivers/uart.h"
#include "core/console.h"
#include "core/console_io.h"
#include "core/lock.h"
#include "core/log.h"
#include "core/params.h"
#include "arch/cpu.h"
#include "lib/parse.h"
#include "lib/string.h"
#include "x86/platform.h"

enum { R_DATA = 0, R_IER = 1, R_IIR_FCR = 2, R_LCR = 3, R_MCR = 4, R_LSR = 5, R_SCRATCH = 7 };
#define IER_RX    1
#define IER_TX    2
#define LSR_RX    0x01
#define LSR_THRE  0x20
#define LSR_TEMT  0x40
#define IIR_NONE  1
#define FIFO_SIZE 16
#define TX_SIZE   16384u
#define ROUNDS    4       /* FIFOs served by one interrupt */
#define SPIN_MAX  200000u /* reads of LSR before a stuck port is given up: about 0.2 s */

struct uart {
    uint16_t base;
    uint8_t irq;
    bool present, irq_driven;
    uint32_t baud; /* 0 = leave as the firmware set it */
    uint8_t lcr;
    struct spinlock lock;
    uint32_t tx_prod, tx_cons;
    char *tx; /* TX_SIZE */
    struct console_driver driver;
};

static char tx_ring[2][TX_SIZE];
static struct uart uarts[2] = {
    {.tx = tx_ring[0], .base = 0x3f8, .irq = 4, .baud = 0, .lcr = 3, .lock = SPINLOCK_INIT(RANK_UART)},
    {.tx = tx_ring[1], .base = 0x2f8, .irq = 3, .baud = 0, .lcr = 3, .lock = SPINLOCK_INIT(RANK_UART)},
};
static bool sync_console;
PARAM_BOOL("sync_console", sync_console, "wait until each console message is sent");
static bool panic_mode;
static char opt_console[64] = "com1,vga";
PARAM_STRING("console", opt_console, "consoles to use, separated by commas: com1, com2, vga, none");

bool console_wanted(const char *name)
{
    size_t n = strlen(name);

    for (const char *p = opt_console; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL)
        if (!strncmp(p, name, n) && (!p[n] || p[n] == ','))
            return true;
    return false;
}

static uint8_t reg_read(const struct uart *u, unsigned reg)
{
    return (uint8_t)port_in((uint16_t)(u->base + reg), 1);
}

static void reg_write(const struct uart *u, unsigned reg, uint8_t v)
{
    port_out((uint16_t)(u->base + reg), 1, v);
}

/* BAUD|auto[/clock][,DPS[,io-base[,irq]]], as in Xen: 115200,8n1,0x3f8,4. */
static bool uart_option(struct uart *u, const char *s)
{
    const char *end = s;

    if (!strncmp(s, "auto", 4)) {
        u->baud = 0;
        end = s + 4;
    } else {
        u->baud = (uint32_t)parse_u64(s, &end, 10);
        if (end == s || !u->baud || u->baud > 115200)
            return false;
    }
    if (*end == ',' && end[1] >= '5' && end[1] <= '8' && end[2] && end[3]) {
        static const char parity[] = "noems";
        const char *p = strchr(parity, end[2]);

        if (!p || (end[3] != '1' && end[3] != '2'))
            return false;
        u->lcr = (uint8_t)((end[1] - '5') | (end[3] == '2' ? 4 : 0));
        if (p != parity)
            u->lcr |= (uint8_t)(8 | (end[2] == 'e' ? 0x10 : end[2] == 'm' ? 0x20 : end[2] == 's' ? 0x30 : 0));
        end += 4;
    }
    if (*end == ',' && end[1]) {
        s = end + 1;
        u->base = (uint16_t)parse_u64(s, &end, 0);
        if (end == s)
            return false;
    }
    if (*end == ',' && end[1]) {
        s = end + 1;
        u->irq = (uint8_t)parse_u64(s, &end, 0);
        if (end == s || u->irq > 15)
            return false;
    }
    return !*end;
}

static bool opt_com1(const char *s)
{
    return uart_option(&uarts[0], s);
}
static bool opt_com2(const char *s)
{
    return uart_option(&uarts[1], s);
}
PARAM_CUSTOM("com1", opt_com1, "baud[,8n1[,io-base[,irq]]] of the first serial port");
PARAM_CUSTOM("com2", opt_com2, "baud[,8n1[,io-base[,irq]]] of the second serial port");

/* One byte now; a port that never gets ready is declared gone. */
static void put_polled(struct uart *u, char c)
{
    unsigned spin = 0;

    while (u->present && !(reg_read(u, R_LSR) & LSR_THRE))
        if (++spin > SPIN_MAX)
            u->present = false;
    if (u->present)
        reg_write(u, R_DATA, (uint8_t)c);
}

static void drain(struct uart *u)
{
    if (u->tx_cons == u->tx_prod || !(reg_read(u, R_LSR) & LSR_THRE))
        return;
    for (unsigned i = 0; i < FIFO_SIZE && u->tx_cons != u->tx_prod; i++)
        reg_write(u, R_DATA, (uint8_t)u->tx[u->tx_cons++ % TX_SIZE]);
}

static void flush_locked(struct uart *u)
{
    while (u->present && u->tx_cons != u->tx_prod)
        put_polled(u, u->tx[u->tx_cons++ % TX_SIZE]);
}

static void queue_locked(struct uart *u, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (u->tx_prod - u->tx_cons == TX_SIZE)
            put_polled(u, u->tx[u->tx_cons++ % TX_SIZE]);
        u->tx[u->tx_prod++ % TX_SIZE] = s[i];
    }
    drain(u);
    reg_write(u, R_IER, u->tx_cons != u->tx_prod ? IER_RX | IER_TX : IER_RX);
}

static void uart_write(struct uart *u, const char *s, size_t n)
{
    bool polled = !u->irq_driven || sync_console || panic_mode;
    unsigned long flags = 0;

    if (!u->present || !n)
        return;
    if (!panic_mode)
        flags = spin_lock_irq(&u->lock);
    if (polled) {
        flush_locked(u);
        for (size_t i = 0; i < n; i++)
            put_polled(u, s[i]);
    } else {
        queue_locked(u, s, n);
    }
    if (!panic_mode)
        spin_unlock_irq(&u->lock, flags);
}

/* Half of the ring is for what must be said. With sync_console the operator wants to wait. */
static size_t uart_room(struct uart *u)
{
    unsigned long flags;
    uint32_t used;

    if (!u->present || sync_console)
        return SIZE_MAX;
    if (!u->irq_driven)
        return 0;
    flags = spin_lock_irq(&u->lock);
    used = u->tx_prod - u->tx_cons;
    spin_unlock_irq(&u->lock, flags);
    return used < TX_SIZE / 2 ? TX_SIZE / 2 - used : 0;
}

/* From here on polled and without lock: only a panic or a stop calls it. */
static void uart_flush(struct uart *u)
{
    unsigned spin = 0;

    panic_mode = true;
    flush_locked(u);
    while (u->present && !(reg_read(u, R_LSR) & LSR_TEMT) && ++spin < SPIN_MAX)
        ;
}

static void com1_write(const char *s, size_t n)
{
    uart_write(&uarts[0], s, n);
}
static void com2_write(const char *s, size_t n)
{
    uart_write(&uarts[1], s, n);
}
static size_t com1_room(void)
{
    return uart_room(&uarts[0]);
}
static size_t com2_room(void)
{
    return uart_room(&uarts[1]);
}
static void com1_flush(void)
{
    uart_flush(&uarts[0]);
}
static void com2_flush(void)
{
    uart_flush(&uarts[1]);
}

/*
 * A port that is always ready (emulated ones are) would keep the CPU here until the ring is empty: after some rounds the rest
 * waits for a new interrupt. The line is edge-triggered, so it has to go down first.
 */
static void uart_interrupt(void *data)
{
    struct uart *u = data;

    for (unsigned round = 0; round < ROUNDS; round++) {
        if (reg_read(u, R_IIR_FCR) & IIR_NONE)
            return;
        for (unsigned i = 0; i < FIFO_SIZE && (reg_read(u, R_LSR) & LSR_RX); i++)
            console_input((char)reg_read(u, R_DATA));
        spin_lock(&u->lock);
        drain(u);
        if (u->tx_cons == u->tx_prod)
            reg_write(u, R_IER, IER_RX);
        spin_unlock(&u->lock);
    }
    spin_lock(&u->lock);
    reg_write(u, R_IER, 0);
    reg_write(u, R_IER, u->tx_cons != u->tx_prod ? IER_RX | IER_TX : IER_RX);
    spin_unlock(&u->lock);
}

/* A register that holds what is written: is there a UART at all? */
static bool uart_probe(const struct uart *u)
{
    reg_write(u, R_SCRATCH, 0x5a);
    return reg_read(u, R_SCRATCH) == 0x5a && reg_read(u, R_LSR) != 0xff;
}

static void uart_setup(struct uart *u)
{
    uint8_t lcr = u->lcr;

    reg_write(u, R_IER, 0);
    if (u->baud) {
        uint16_t divisor = (uint16_t)(115200 / u->baud);

        reg_write(u, R_LCR, lcr | 0x80);
        reg_write(u, R_DATA, (uint8_t)divisor);
        reg_write(u, R_IER, (uint8_t)(divisor >> 8));
        reg_write(u, R_LCR, lcr);
    } else {
        reg_write(u, R_LCR, reg_read(u, R_LCR) & 0x7f);
    }
    reg_write(u, R_IIR_FCR, 0x07); /* FIFOs on and empty, interrupt at 1 byte */
    reg_write(u, R_MCR, 0x0b);     /* DTR, RTS, OUT2: interrupts reach the controller */
}

void uart_early_init(void)
{
    static const struct console_driver driver[2] = {
        {.name = "com1", .write = com1_write, .flush = com1_flush, .room = com1_room},
        {.name = "com2", .write = com2_write, .flush = com2_flush, .room = com2_room},
    };

    for (unsigned i = 0; i < ARRAY_SIZE(uarts); i++) {
        struct uart *u = &uarts[i];

        if (!console_wanted(driver[i].name) || !uart_probe(u))
            continue;
        uart_setup(u);
        u->present = true;
        u->driver = driver[i];
        port_reserve(u->base, (uint16_t)(u->base + 7), driver[i].name);
        console_register(&u->driver);
    }
}

void uart_irq_init(void)
{
    for (unsigned i = 0; i < ARRAY_SIZE(uarts); i++) {
        struct uart *u = &uarts[i];

        if (!u->present)
            continue;
        if (irq_request_isa(u->irq, uart_interrupt, u)) {
            log_warn("%s: no interrupt %u: output is polled, no input", u->driver.name, u->irq);
            continue;
        }
        u->irq_driven = true;
        reg_write(u, R_IER, IER_RX);
    }
}
