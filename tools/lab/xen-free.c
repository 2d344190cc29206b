/*
 * xen-free - prints the hypervisor's free memory in pages: what `xl info` shows in MiB only.
 * Built with Debian's libxenctrl by tools/lab/dom0-image; the whole-machine tests use it to see that nothing is left behind.
 */
#include <stdio.h>
#include <xenctrl.h>

int main(void)
{
    xc_interface *xc = xc_interface_open(NULL, NULL, 0);
    xc_physinfo_t info = {};

    if (!xc || xc_physinfo(xc, &info)) {
        perror("xen-free");
        return 1;
    }
    printf("%llu\n", (unsigned long long)info.free_pages);
    return 0;
}
