#include "udpgate/forward/openssl_envelope_keys.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace udpgate {
namespace forward {
namespace {

constexpr size_t kKeyBytes = 32;
constexpr size_t kNonceBytes = 12;
// Other uses of the same secret would have another text.
constexpr char kPurpose[] = "udpgate envelope 1";

using Key = std::array<unsigned char, kKeyBytes>;

// A number in network byte order.
template <size_t kBytes>
std::array<unsigned char, kBytes> BytesOf(uint64_t number) {
  std::array<unsigned char, kBytes> bytes{};
  for (size_t i = kBytes; i-- > 0; number >>= 8) {
    bytes[i] = static_cast<unsigned char>(number & 0xff);
  }
  return bytes;
}

bool DeriveKey(absl::string_view secret, uint64_t sender_id, Key* key) {
  std::array<unsigned char, sizeof(sender_id)> salt =
      BytesOf<sizeof(sender_id)>(sender_id);
  const std::unique_ptr<EVP_KDF, decltype(&EVP_KDF_free)> kdf(
      EVP_KDF_fetch(nullptr, "HKDF", nullptr), EVP_KDF_free);
  if (kdf == nullptr) return false;
  const std::unique_ptr<EVP_KDF_CTX, decltype(&EVP_KDF_CTX_free)> context(
      EVP_KDF_CTX_new(kdf.get()), EVP_KDF_CTX_free);
  if (context == nullptr) return false;
  // The parameters are only read, but are not declared const.
  char digest[] = "SHA256";
  std::string copy(secret);
  std::string purpose = kPurpose;
  const OSSL_PARAM parameters[] = {
      OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, &copy[0],
                                        copy.size()),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, salt.data(),
                                        salt.size()),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, &purpose[0],
                                        purpose.size()),
      OSSL_PARAM_construct_end()};
  const bool is_derived =
      EVP_KDF_derive(context.get(), key->data(), key->size(), parameters) == 1;
  OPENSSL_cleanse(&copy[0], copy.size());
  return is_derived;
}

const unsigned char* Bytes(const char* data) {
  return reinterpret_cast<const unsigned char*>(data);
}
unsigned char* Bytes(char* data) {
  return reinterpret_cast<unsigned char*>(data);
}

// A context is set up with the key once; each envelope only sets the nonce.
class OpenSslCipher final : public EnvelopeCipher {
 public:
  ~OpenSslCipher() override {
    EVP_CIPHER_CTX_free(seal_);
    EVP_CIPHER_CTX_free(open_);
  }

  bool Init(const Key& key) {
    seal_ = EVP_CIPHER_CTX_new();
    open_ = EVP_CIPHER_CTX_new();
    return seal_ != nullptr && open_ != nullptr &&
           EVP_EncryptInit_ex(seal_, EVP_aes_256_gcm(), nullptr, key.data(),
                              nullptr) == 1 &&
           EVP_DecryptInit_ex(open_, EVP_aes_256_gcm(), nullptr, key.data(),
                              nullptr) == 1;
  }

  bool Seal(uint64_t counter, absl::Span<const char> header, size_t text_bytes,
            absl::Span<char> buffer) override {
    const auto nonce = BytesOf<kNonceBytes>(counter);
    const int size = static_cast<int>(text_bytes);
    int written = 0;
    return EVP_EncryptInit_ex(seal_, nullptr, nullptr, nullptr, nonce.data()) ==
               1 &&
           EVP_EncryptUpdate(seal_, nullptr, &written, Bytes(header.data()),
                             static_cast<int>(header.size())) == 1 &&
           EVP_EncryptUpdate(seal_, Bytes(buffer.data()), &written,
                             Bytes(buffer.data()), size) == 1 &&
           EVP_EncryptFinal_ex(seal_, Bytes(buffer.data()) + written,
                               &written) == 1 &&
           EVP_CIPHER_CTX_ctrl(seal_, EVP_CTRL_AEAD_GET_TAG, kTagBytes,
                               buffer.data() + text_bytes) == 1;
  }

  bool Open(uint64_t counter, absl::Span<const char> header,
            absl::Span<char> sealed) override {
    if (sealed.size() < kTagBytes) return false;
    const auto nonce = BytesOf<kNonceBytes>(counter);
    const size_t text_bytes = sealed.size() - kTagBytes;
    int written = 0;
    return EVP_DecryptInit_ex(open_, nullptr, nullptr, nullptr, nonce.data()) ==
               1 &&
           EVP_DecryptUpdate(open_, nullptr, &written, Bytes(header.data()),
                             static_cast<int>(header.size())) == 1 &&
           EVP_DecryptUpdate(open_, Bytes(sealed.data()), &written,
                             Bytes(sealed.data()),
                             static_cast<int>(text_bytes)) == 1 &&
           EVP_CIPHER_CTX_ctrl(open_, EVP_CTRL_AEAD_SET_TAG, kTagBytes,
                               sealed.data() + text_bytes) == 1 &&
           EVP_DecryptFinal_ex(open_, Bytes(sealed.data()) + written,
                               &written) == 1;
  }

 private:
  EVP_CIPHER_CTX* seal_ = nullptr;
  EVP_CIPHER_CTX* open_ = nullptr;
};

absl::Status FileError(int error, const std::string& path) {
  return absl::ErrnoToStatus(error, absl::StrCat("secret file ", path));
}

}  // namespace

absl::StatusOr<std::shared_ptr<EnvelopeKeys>> OpenSslEnvelopeKeys::FromSecret(
    absl::string_view secret) {
  if (secret.size() < kSecretBytesMin || secret.size() > kSecretBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("the secret has ", secret.size(), " bytes; allowed are ",
                     kSecretBytesMin, " to ", kSecretBytesMax));
  }
  return std::shared_ptr<EnvelopeKeys>(new OpenSslEnvelopeKeys(secret));
}

absl::StatusOr<std::shared_ptr<EnvelopeKeys>> OpenSslEnvelopeKeys::FromFile(
    const std::string& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(
      std::fopen(path.c_str(), "re"), std::fclose);
  if (file == nullptr) return FileError(errno, path);
  std::array<char, kSecretBytesMax + 1> content{};
  const size_t bytes =
      std::fread(content.data(), 1, content.size(), file.get());
  if (std::ferror(file.get()) != 0) return FileError(EIO, path);
  absl::StatusOr<std::shared_ptr<EnvelopeKeys>> keys =
      FromSecret(absl::StripAsciiWhitespace({content.data(), bytes}));
  OPENSSL_cleanse(content.data(), content.size());
  if (keys.ok()) return keys;
  return absl::InvalidArgumentError(
      absl::StrCat("secret file ", path, ": ", keys.status().message()));
}

OpenSslEnvelopeKeys::~OpenSslEnvelopeKeys() {
  OPENSSL_cleanse(&secret_[0], secret_.size());
}

std::unique_ptr<EnvelopeCipher> OpenSslEnvelopeKeys::CipherOf(
    uint64_t sender_id) {
  Key key{};
  auto cipher = std::make_unique<OpenSslCipher>();
  const bool is_ready =
      DeriveKey(secret_, sender_id, &key) && cipher->Init(key);
  OPENSSL_cleanse(key.data(), key.size());
  if (!is_ready) return nullptr;
  return cipher;
}

}  // namespace forward
}  // namespace udpgate
