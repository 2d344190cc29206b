/* 16550 serial console: com1=, com2=, console=com1. */
#ifndef DRIVERS_UART_H
#define DRIVERS_UART_H

/* Polled output from the first instruction of C; chooses ports by console= and comN= (after params_parse). */
void uart_early_init(void);
/* Interrupt-driven from here on (after irq_init). */
void uart_irq_init(void);

#endif
