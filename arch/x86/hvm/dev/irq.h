/*
 * Interrupt lines and messages of an HVM guest's devices: arch/x86/hvm/dev/irq.c. For device models (dm_op), Krypton's own devices, and
 * the entry into the guest. Safe in interrupt context and below RANK_SCHED; guests without such devices (PVH) have no lines.
 */
#ifndef HVM_IRQ_H
#define HVM_IRQ_H

#include "core/errno.h"
#include "core/types.h"

struct domain;
struct vcpu;

/* -EOPNOTSUPP: it has no interrupt controllers. Only hvm_inject_msi and hvm_callback_none need none. */

/* A device model's wires. irq 0-15, device 0-31 of bus 0, intx 0-3 (A-D), link 0-3: else -EINVAL. */
int hvm_isa_irq(struct domain *d, unsigned irq, bool level);
int hvm_pci_intx(struct domain *d, unsigned bus, unsigned dev, unsigned intx, bool level);
/* Where the PCI-ISA bridge leads a link; irq 0: nowhere. */
int hvm_pci_link_route(struct domain *d, unsigned link, unsigned irq);
/* The x87's error line: interrupt 13. Without a board, nothing. */
void hvm_fpu_error(struct domain *d);
/* A write of `data` to the message address (Intel SDM vol. 3 11.11). */
int hvm_inject_msi(struct domain *d, uint64_t address, uint32_t data);

/* --- how events are announced where it is by a line: HVM_PARAM_CALLBACK_IRQ --- */
int hvm_callback_gsi(struct domain *d, unsigned gsi);
int hvm_callback_intx(struct domain *d, unsigned dev, unsigned intx);
void hvm_callback_none(struct domain *d);
/* The line follows vCPU 0's pending events: _follow, on v's way in. _due: the line is not as the events are, it has to follow. _high: it
 * is high, and has to fall when the events are seen, of which nobody tells. Both are false on other vCPUs. */
bool hvm_callback_due(const struct vcpu *v);
bool hvm_callback_high(const struct vcpu *v);
void hvm_callback_follow(struct vcpu *v);

/* --- the 8259s' output, which goes past the local APIC --- */
bool hvm_pic_pending(const struct vcpu *v);
/* The processor's acknowledge cycle: the vector, or -1. */
int hvm_pic_ack(struct vcpu *v);

/* The local APIC's EOI of a level-triggered vector. */
void hvm_eoi_level(struct domain *d, uint8_t vector);

#endif
