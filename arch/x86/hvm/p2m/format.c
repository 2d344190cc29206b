/*
 * The two formats of the table: AMD nested paging (AMD APM vol. 2 15.25: ordinary long-mode entries, walked as user accesses) and
 * Intel EPT (SDM vol. 3 29.3.2). Pure data: what the hardware wants of an entry of each type. No locks.
 *
 * Frames of others are not executable. Device memory is uncached: in nested paging by PCD and PWT, which win over the guest's own type.
 */
#include "private.h"
#include "x86/pte.h"

#define NPT_RO (PTE_P | PTE_US)
#define NPT_RW (NPT_RO | PTE_RW)

const struct p2m_format p2m_npt = {
    .name = "nested paging",
    .table = NPT_RW | PTE_A,
    .leaf =
        {
            [P2M_RAM] = NPT_RW,
            [P2M_RAM_RO] = NPT_RO,
            [P2M_MMIO] = NPT_RW | PTE_PCD | PTE_PWT,
            [P2M_FOREIGN] = NPT_RW | PTE_NX,
            [P2M_FOREIGN_RO] = NPT_RO | PTE_NX,
            [P2M_GRANT] = NPT_RW | PTE_NX,
            [P2M_GRANT_RO] = NPT_RO | PTE_NX,
            [P2M_LOGGED] = NPT_RO,
            [P2M_RAM_DM] = NPT_RO,
        },
    .present = PTE_P,
    .large = PTE_PS,
    .write = PTE_RW,
    .accessed = PTE_A,
    .dirty = PTE_D,
};

#define EPT_R      1ull
#define EPT_W      2ull
#define EPT_X      4ull
#define EPT_WB     (6ull << 3)
#define EPT_UC     0ull
#define EPT_LARGE  0x80ull
#define EPT_A      0x100ull
#define EPT_D      0x200ull
#define EPT_RAM_RO (EPT_R | EPT_X | EPT_WB)
#define EPT_RAM    (EPT_RAM_RO | EPT_W)
#define EPT_DATA   (EPT_R | EPT_WB)

const struct p2m_format p2m_ept = {
    .name = "EPT",
    .table = EPT_R | EPT_W | EPT_X,
    .leaf =
        {
            [P2M_RAM] = EPT_RAM,
            [P2M_RAM_RO] = EPT_RAM_RO,
            [P2M_MMIO] = EPT_R | EPT_W | EPT_X | EPT_UC,
            [P2M_FOREIGN] = EPT_DATA | EPT_W,
            [P2M_FOREIGN_RO] = EPT_DATA,
            [P2M_GRANT] = EPT_DATA | EPT_W,
            [P2M_GRANT_RO] = EPT_DATA,
            [P2M_LOGGED] = EPT_RAM_RO,
            [P2M_RAM_DM] = EPT_RAM_RO,
        },
    .present = EPT_R | EPT_W | EPT_X,
    .large = EPT_LARGE,
    .write = EPT_W,
    .accessed = EPT_A,
    .dirty = EPT_D,
};
