/* Our version, and the interface version that we report to guests and tools. */
#ifndef CORE_VERSION_H
#define CORE_VERSION_H

#define KRYPTON_VERSION      "0.1"
#define KRYPTON_EXTRAVERSION ".0-krypton"
#define XEN_COMPAT_MAJOR     4
#define XEN_COMPAT_MINOR     17

#endif
