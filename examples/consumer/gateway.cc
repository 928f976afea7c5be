// A gateway over two backends; serves until its input ends.
#include <iostream>
#include <memory>
#include <string>

#include "two_backends.h"
#include "udpgate/proxy.h"
#include "udpgate/version.h"

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: gateway LISTEN BACKEND BACKEND\n";
    return 2;
  }
  udpgate::SocketAddress addresses[3];
  for (int i = 0; i < 3; ++i) {
    auto address = udpgate::SocketAddress::Parse(argv[i + 1]);
    if (!address.ok()) {
      std::cerr << address.status() << "\n";
      return 2;
    }
    addresses[i] = *address;
  }
  udpgate::ProxyOptions options;
  options.listen_address = addresses[0];
  udpgate::ProxyDependencies dependencies;
  dependencies.resolver =
      std::make_shared<TwoBackends>(addresses[1], addresses[2]);
  auto proxy = udpgate::Proxy::Create(options, dependencies);
  const absl::Status status = proxy.ok() ? (*proxy)->Start() : proxy.status();
  if (!status.ok()) {
    std::cerr << status << "\n";
    return 1;
  }
  std::cout << "udpgate " UDPGATE_VERSION_STRING " listens on "
            << (*proxy)->listen_addresses()[0].ToString() << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
  }
  return 0;
}
