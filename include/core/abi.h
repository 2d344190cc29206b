/*
 * The one door to the Xen interface: structures and numbers come from Debian's libxen-dev (4.17 or 4.20),
 * nothing is retyped. __XEN_TOOLS__ also shows the control interfaces (domctl, sysctl, platform).
 * Guest handles are plain pointers of the *guest*: turn them into a gva_t with HANDLE(), never dereference.
 */
#ifndef CORE_ABI_H
#define CORE_ABI_H

#include "core/types.h"

#define __XEN_TOOLS__ 1
#include <xen/xen-compat.h>
#ifndef __XEN_INTERFACE_VERSION__
#define __XEN_INTERFACE_VERSION__ __XEN_LATEST_INTERFACE_VERSION__
#endif
#include <xen/xen.h>
#include <xen/version.h>
#include <xen/features.h>
#include <xen/memory.h>
#include <xen/event_channel.h>
#include <xen/grant_table.h>
#include <xen/sched.h>
#include <xen/vcpu.h>
#include <xen/callback.h>
#include <xen/nmi.h>
#include <xen/physdev.h>
#include <xen/platform.h>
#include <xen/elfnote.h>
#include <xen/sysctl.h>
#include <xen/trace.h>
#include <xen/domctl.h>
#include <xen/xenoprof.h>
#include <xen/arch-x86/xen-mca.h>
#include <xen/arch-x86/cpuid.h>
#include <xen/arch-x86/hvm/start_info.h>

/* Operations that came after 4.17's headers. */
#ifndef XEN_DOMCTL_gsi_permission
#define XEN_DOMCTL_gsi_permission 88
#endif
#ifndef XEN_DOMCTL_set_llc_colors
#define XEN_DOMCTL_set_llc_colors 89
#endif

/* Guest address inside a XEN_GUEST_HANDLE. */
#define HANDLE(h) GVA((uintptr_t)(h).p)

/* Numbers that the 4.17 headers lack: one binary serves both releases, whichever it is built with. */
#ifndef XENVER_extraversion2
#define XENVER_extraversion2 11
#define XENVER_capabilities2 12
#define XENVER_changeset2    13
#define XENVER_commandline2  14
#endif

/* Errno values of the interface, always used negated: -XEN_EINVAL ... */
#include "core/errno.h"

#endif
