// TLS to Redis, by OpenSSL 3. Who does not link this links no OpenSSL.
//
//   udpgate::RedisTlsOptions tls;
//   tls.ca_file = "/etc/ssl/redis-ca.pem";
//   options.transport = udpgate::MakeRedisTls(tls);  // RedisOptions
#ifndef UDPGATE_REDIS_REDIS_TLS_H_
#define UDPGATE_REDIS_REDIS_TLS_H_

#include <memory>
#include <string>

#include "udpgate/base/export.h"
#include "udpgate/redis/redis_transport.h"

namespace udpgate {

// All files are PEM, and read for each attempt to connect, so that they can be
// replaced while the program runs.
struct UDPGATE_EXPORT RedisTlsOptions {
  // The certificate authorities. Empty: those of the system.
  std::string ca_file;

  // The name that the server's certificate must have, and that is sent to the
  // server (SNI, RFC 6066 section 3) unless it is an IP address. Empty: the
  // host of `RedisOptions::address`.
  std::string server_name;

  // The certificate chain of the client and its private key, without a pass
  // phrase. Both or neither.
  std::string certificate_file;
  std::string key_file;
};

// TLS 1.2 and newer; the server's certificate and its name are verified. Bad
// files are errors of an attempt to connect.
UDPGATE_EXPORT std::shared_ptr<const RedisTransportFactory> MakeRedisTls(
    RedisTlsOptions options);

}  // namespace udpgate

#endif  // UDPGATE_REDIS_REDIS_TLS_H_
