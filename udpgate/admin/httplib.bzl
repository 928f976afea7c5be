"""What every target that includes httplib.h must define."""

# As `pkg-config --cflags cpp-httplib` says for the distribution's library.
HTTPLIB_DEFINES = [
    "CPPHTTPLIB_BROTLI_SUPPORT",
    "CPPHTTPLIB_OPENSSL_SUPPORT",
    "CPPHTTPLIB_ZLIB_SUPPORT",
]
