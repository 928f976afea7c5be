// The version of the library, as numbers for `#if` and as text for logs. It
// follows https://semver.org: below 1.0 a minor release may change the
// interface, and CHANGELOG.md says how.
//
//   #if UDPGATE_VERSION_MAJOR == 0 && UDPGATE_VERSION_MINOR < 2
//   #error "this program needs udpgate 0.2"
//   #endif
#ifndef UDPGATE_VERSION_H_
#define UDPGATE_VERSION_H_

#define UDPGATE_VERSION_MAJOR 0
#define UDPGATE_VERSION_MINOR 1
#define UDPGATE_VERSION_PATCH 0
#define UDPGATE_VERSION_STRING "0.1.0"

#endif  // UDPGATE_VERSION_H_
