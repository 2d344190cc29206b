/* FIFO event channels. There is no way back to the other kind: this file's test is the last of all. */
#include "guest.h"

TEST(zz_fifo_event_channels)
{
    struct evtchn_fifo_control_block *cb = page_alloc();
    event_word_t *words = page_alloc();
    struct evtchn_init_control init = {.control_gfn = ~0ull, .offset = 0, .vcpu = 0};
    struct evtchn_expand_array ex = {.array_gfn = ~0ull};
    struct evtchn_alloc_unbound u = {.dom = DOMID_SELF, .remote_dom = DOMID_SELF};
    struct evtchn_bind_interdomain b = {.remote_dom = DOMID_SELF};
    struct evtchn_set_priority prio = {.priority = 3};
    struct evtchn_send s;

    events_off();
    CHECK(HC2(event_channel_op, EVTCHNOP_expand_array, &ex) < 0); /* not FIFO yet */
    CHECK(HC2(event_channel_op, EVTCHNOP_init_control, &init) < 0);
    init.control_gfn = va_pfn(cb);
    init.offset = 4090;
    CHECK(HC2(event_channel_op, EVTCHNOP_init_control, &init) < 0);
    init.control_gfn = TABLE_MFN;
    init.offset = 0;
    if (!HVM_GUEST)
        CHECK(HC2(event_channel_op, EVTCHNOP_init_control, &init) < 0);
    init.control_gfn = va_mfn(cb);
    init.vcpu = 4096;
    CHECK(HC2(event_channel_op, EVTCHNOP_init_control, &init) < 0);
    init.vcpu = 0;
    CHECK_EQ(HC2(event_channel_op, EVTCHNOP_init_control, &init), 0);
    CHECK(HC2(event_channel_op, EVTCHNOP_expand_array, &ex) < 0);
    ex.array_gfn = TABLE_MFN;
    if (!HVM_GUEST)
        CHECK(HC2(event_channel_op, EVTCHNOP_expand_array, &ex) < 0);
    ex.array_gfn = va_mfn(words);
    CHECK_EQ(HC2(event_channel_op, EVTCHNOP_expand_array, &ex), 0);
    if (!HVM_GUEST) {
        CHECK_EQ(page_protect(words), 0);
        CHECK(mmu_ext(MMUEXT_PIN_L1_TABLE, va_mfn(words), 0) < 0); /* written by the hypervisor */
        CHECK_EQ(page_unprotect(words), 0);
    }
    CHECK_EQ(HC2(event_channel_op, EVTCHNOP_alloc_unbound, &u), 0);
    b.remote_port = u.port;
    CHECK_EQ(HC2(event_channel_op, EVTCHNOP_bind_interdomain, &b), 0);
    prio.port = u.port;
    CHECK_EQ(HC2(event_channel_op, EVTCHNOP_set_priority, &prio), 0);
    prio.priority = EVTCHN_FIFO_MAX_QUEUES;
    CHECK(HC2(event_channel_op, EVTCHNOP_set_priority, &prio) < 0);
    __atomic_and_fetch(&words[u.port], ~(1u << EVTCHN_FIFO_MASKED), __ATOMIC_SEQ_CST);
    s.port = b.local_port;
    shared->vcpu_info[0].evtchn_upcall_pending = 0;
    CHECK_EQ(HC2(event_channel_op, EVTCHNOP_send, &s), 0);
    CHECK(words[u.port] & 1u << EVTCHN_FIFO_PENDING);
    CHECK(words[u.port] & 1u << EVTCHN_FIFO_LINKED);
    CHECK(cb->ready & 1u << 3);
    CHECK_EQ(cb->head[3], u.port);
    CHECK_EQ(shared->vcpu_info[0].evtchn_upcall_pending, 1);
    /* Hostile words: links in circles and out of range, while events arrive. */
    for (unsigned i = 0; i < 1024; i++)
        words[i] = 0xc0000000u | (i * 7919 & 0x1ffff) | (i & 1) << EVTCHN_FIFO_LINKED;
    memset(cb, 0xff, sizeof(*cb));
    for (unsigned i = 0; i < 100; i++)
        HC2(event_channel_op, EVTCHNOP_send, &s);
    memset(words, 0, PAGE);
    memset(cb, 0, sizeof(*cb));
    CHECK_EQ(HC2(event_channel_op, EVTCHNOP_send, &s), 0);
    shared->vcpu_info[0].evtchn_upcall_pending = 0;
}
