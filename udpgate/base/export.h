// Marks what a shared library of this project exports. Everything else is
// hidden (-fvisibility=hidden), see https://gcc.gnu.org/wiki/Visibility.
#ifndef UDPGATE_BASE_EXPORT_H_
#define UDPGATE_BASE_EXPORT_H_

#define UDPGATE_EXPORT __attribute__((visibility("default")))

#endif  // UDPGATE_BASE_EXPORT_H_
