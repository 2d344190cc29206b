/*
 * xen_version (xen/version.h). We report the Xen version whose interface we serve, because kernels and tools
 * choose by it; `extraversion` and `capabilities` say who really answers. arg: 0 operation, 1 buffer.
 */
#include "private.h"
#include "core/abi.h"
#include "core/domain.h"
#include "core/guest.h"
#include "core/params.h"
#include "core/version.h"
#include "arch/guest_ops.h"
#include "lib/fmt.h"
#include "lib/string.h"

/* A fixed-size text field, zero-padded so that nothing of our stack goes out with it. */
static long put_text(struct hypercall *hc, const char *s, size_t size)
{
    char buf[1024] = {0};

    strlcpy(buf, s, MIN(size, sizeof(buf)));
    return guest_write(hc->caller, GVA(hc->arg[1]), buf, MIN(size, sizeof(buf)));
}

static long ver_version(struct hypercall *hc)
{
    return (XEN_COMPAT_MAJOR << 16) | XEN_COMPAT_MINOR;
}

static long ver_extraversion(struct hypercall *hc)
{
    return put_text(hc, KRYPTON_EXTRAVERSION, XEN_EXTRAVERSION_LEN);
}

static long ver_compile_info(struct hypercall *hc)
{
    struct xen_compile_info info = {0};

    strlcpy(info.compiler, "cc " __VERSION__, sizeof(info.compiler));
    strlcpy(info.compile_by, "krypton", sizeof(info.compile_by));
    strlcpy(info.compile_domain, "krypton", sizeof(info.compile_domain));
    strlcpy(info.compile_date, "reproducible build", sizeof(info.compile_date));
    return guest_write(hc->caller, GVA(hc->arg[1]), &info, sizeof(info));
}

static long ver_capabilities(struct hypercall *hc)
{
    return put_text(hc, arch_capabilities(), sizeof(xen_capabilities_info_t));
}

static long ver_changeset(struct hypercall *hc)
{
    return put_text(hc, "Krypton " KRYPTON_VERSION, sizeof(xen_changeset_info_t));
}

static long ver_platform(struct hypercall *hc)
{
    struct xen_platform_parameters p = {.virt_start = arch_virt_start(hc->caller->domain)};

    return guest_write(hc->caller, GVA(hc->arg[1]), &p, sizeof(p));
}

static long ver_features(struct hypercall *hc)
{
    struct xen_feature_info f;

    if (guest_read(hc->caller, &f, GVA(hc->arg[1]), sizeof(f)))
        return -EFAULT;
    if (f.submap_idx)
        return -EINVAL;
    f.submap = arch_features(hc->caller->domain);
    return guest_write(hc->caller, GVA(hc->arg[1]), &f, sizeof(f));
}

static long ver_pagesize(struct hypercall *hc)
{
    return hc->arg[1] ? -EINVAL : (long)FRAME_SIZE;
}

static long ver_guest_handle(struct hypercall *hc)
{
    return guest_write(hc->caller, GVA(hc->arg[1]), hc->caller->domain->handle, sizeof(xen_domain_handle_t));
}

/* Other guests learn nothing about the machine's command line. */
static long ver_commandline(struct hypercall *hc)
{
    return put_text(hc, hc->caller->domain->privileged ? saved_cmdline : "<denied>",
                    sizeof(xen_commandline_t));
}

/*
 * The forms of 4.18 on: struct xen_varbuf {u32 size of buf; u8 buf[]}, no terminator, nothing is cut short. Without a
 * buffer the size is asked for. -EINVAL: an empty buffer, -ENOBUFS: one too small.
 */
static long put_varbuf(struct hypercall *hc, const char *s)
{
    uint32_t len, n = (uint32_t)strlen(s);
    gva_t at = GVA(hc->arg[1]);

    if (!at.a)
        return n;
    if (guest_read(hc->caller, &len, at, sizeof(len)))
        return -EFAULT;
    if (!len)
        return -EINVAL;
    if (len < n)
        return -ENOBUFS;
    return guest_write_at(hc->caller, GVA(at.a + sizeof(len)), 0, s, n) ? -EFAULT : (long)n;
}

static long ver_extraversion2(struct hypercall *hc)
{
    return put_varbuf(hc, KRYPTON_EXTRAVERSION);
}

static long ver_capabilities2(struct hypercall *hc)
{
    return put_varbuf(hc, arch_capabilities());
}

static long ver_changeset2(struct hypercall *hc)
{
    return put_varbuf(hc, "Krypton " KRYPTON_VERSION);
}

static long ver_commandline2(struct hypercall *hc)
{
    return put_varbuf(hc, hc->caller->domain->privileged ? saved_cmdline : "<denied>");
}

const struct hc_op version_ops[] = {
    {XENVER_version, PERM_ANY, "XENVER_version", ver_version, 0, "reports 4.17"},
    {XENVER_extraversion, PERM_ANY, "XENVER_extraversion", ver_extraversion, 0, NULL},
    {XENVER_compile_info, PERM_ANY, "XENVER_compile_info", ver_compile_info, 0, NULL},
    {XENVER_capabilities, PERM_ANY, "XENVER_capabilities", ver_capabilities, 0, NULL},
    {XENVER_changeset, PERM_ANY, "XENVER_changeset", ver_changeset, 0, NULL},
    {XENVER_platform_parameters, PERM_ANY, "XENVER_platform_parameters", ver_platform, 0, NULL},
    {XENVER_get_features, PERM_ANY, "XENVER_get_features", ver_features, 0, NULL},
    {XENVER_pagesize, PERM_ANY, "XENVER_pagesize", ver_pagesize, 0, NULL},
    {XENVER_guest_handle, PERM_ANY, "XENVER_guest_handle", ver_guest_handle, 0, NULL},
    {XENVER_commandline, PERM_ANY, "XENVER_commandline", ver_commandline, 0,
     "privileged domains; others read <denied>"},
    {XENVER_build_id, PERM_ANY, "XENVER_build_id", NULL, ENODATA, "images carry no build id"},
    {XENVER_extraversion2, PERM_ANY, "XENVER_extraversion2", ver_extraversion2, 0, NULL},
    {XENVER_capabilities2, PERM_ANY, "XENVER_capabilities2", ver_capabilities2, 0, NULL},
    {XENVER_changeset2, PERM_ANY, "XENVER_changeset2", ver_changeset2, 0, NULL},
    {XENVER_commandline2, PERM_ANY, "XENVER_commandline2", ver_commandline2, 0, "as XENVER_commandline"},
};
const unsigned version_op_count = ARRAY_SIZE(version_ops);
