/* The board of an HVM guest with emulated devices, for the rest of arch/x86/hvm: arch/x86/hvm/dev/board.c. */
#ifndef HVM_BOARD_H
#define HVM_BOARD_H

#include "core/abi.h"
#include "core/types.h"
#include <xen/hvm/save.h>

struct domain;

/* Makes the board and puts its devices on d's bus. */
int must_check hvm_board_init(struct domain *d);
void hvm_board_stop(struct domain *d); /* no timer of it runs any more, nor again; no lock held */
void hvm_board_free(struct domain *d);
/* The guest does not run: suspended to RAM, its devices have no power; and then they have. Nothing without a board. */
void hvm_board_power_lost(struct domain *d);
void hvm_board_woken(struct domain *d);
void hvm_board_check(const struct domain *d);

/* --- records of xen/arch-x86/hvm/save.h --- */
union hvm_board_record {
    struct hvm_hw_vpic pic;
    struct hvm_hw_vioapic ioapic;
    struct hvm_hw_pci_irqs pci_irqs;
    struct hvm_hw_isa_irqs isa_irqs;
    struct hvm_hw_pci_link link;
    struct hvm_hw_pit pit;
    struct hvm_hw_rtc rtc;
    struct hvm_hw_hpet hpet;
    struct hvm_hw_pmtimer pm;
};
/* 0: none of a board's. */
uint32_t hvm_board_length(uint16_t type);
bool hvm_board_get(const struct domain *d, uint16_t type, unsigned instance, union hvm_board_record *r);
int hvm_board_record_ok(const struct domain *d, uint16_t type, unsigned instance, const void *record);
void hvm_board_set(struct domain *d, uint16_t type, unsigned instance, const void *record); /* checked */

#endif
