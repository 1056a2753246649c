// SPDX-License-Identifier: BSD-3-Clause
// A client's bytes from the greeting on, through handshake and transmission, over a stream in
// memory that hands them out in pieces; plain, and through TLS. The exports see to it that the
// server keeps what it promises to them (core/nbd/export.hpp).
#include <memory>
#include <vector>

#include "core/base/json.hpp"
#include "core/control/mailbox.hpp"
#include "core/nbd/framed_export.hpp"
#include "core/nbd/handshake.hpp"
#include "core/nbd/transmission.hpp"
#include "disk_traits.hpp"
#include "input.hpp"
#include "memory_stream.hpp"
#include "tls_peer.hpp"

namespace mirror::fuzz {
namespace {

constexpr std::uint64_t disk_size = 64 * KiB;
/// A client's flags and STARTTLS; it hears the greeting and the answer before TLS, too.
constexpr std::string_view begins_tls("\0\0\0\3IHAVEOPT\0\0\0\5\0\0\0\0", 20);
constexpr std::size_t plain_answer = 18 + 20;

class Disk final : public nbd::Export {
  public:
    explicit Disk(bool read_only) : read_only_(read_only) {}

    nbd::Traits traits() const override { return disk_traits(disk_size, read_only_); }
    Result<void> read(std::span<std::byte> into, std::uint64_t offset) override {
        require(ByteRange{offset, into.size()}.fits_in(disk_size), "reads are within the export");
        std::copy_n(content_.begin() + static_cast<std::ptrdiff_t>(offset), into.size(),
                    into.begin());
        return {};
    }
    Result<void> write(std::span<const std::byte> from, std::uint64_t offset) override {
        check_change({offset, from.size()});
        std::copy(from.begin(), from.end(), content_.begin() + static_cast<std::ptrdiff_t>(offset));
        return {};
    }
    Result<void> zero(ByteRange range, Space) override {
        check_change(range);
        std::fill_n(content_.begin() + static_cast<std::ptrdiff_t>(range.offset), range.length,
                    std::byte{0});
        return {};
    }
    Result<void> trim(ByteRange range) override { return zero(range, Space::may_free); }
    Result<void> flush() override { return {}; }
    /// Every other 4 KiB a hole, and an end that is cut short at times.
    Result<std::vector<Extent>> extents(ByteRange range) override {
        require(range.fits_in(disk_size), "extents are asked within the export");
        std::vector<Extent> found;
        for (std::uint64_t at = range.offset; at < range.end();) {
            const std::uint64_t end = std::min((at / 4096 + 1) * 4096, range.end());
            found.push_back({{at, end - at}, at / 4096 % 2 == 1});
            at = end;
        }
        return found;
    }

  private:
    void check_change(ByteRange range) const {
        require(!read_only_, "a read-only export is not written");
        require(!range.empty() && range.fits_in(disk_size), "changes are within the export");
    }

    const bool read_only_;
    std::vector<std::byte> content_ = std::vector<std::byte>(disk_size);
};

class Provider final : public nbd::ExportProvider {
  public:
    std::vector<std::string> list(const nbd::Client&) override {
        return {"disk", "read-only", std::string(4096, 'n')};
    }
    Result<std::unique_ptr<nbd::Export>> open(const std::string& name, const nbd::Client& client,
                                              std::function<void()> shutdown) override {
        require(name.size() <= nbd::max_name, "names are bounded");
        if (name == "refused") {
            return fail(ErrorKind::refused, "not for you");
        }
        if (name == "ends") {
            shutdown();
        }
        if (name == "control") {
            return control::make_mailbox_export(
                [](const control::Json& request, const nbd::Client&) -> Result<control::Json> {
                    return request;
                },
                client);
        }
        if (name == "framed") {
            return std::make_unique<nbd::FramedExport>(std::make_unique<Disk>(false),
                                                       [](const Error&) {});
        }
        if (name.empty() || name == "disk" || name == "ends" || name == "read-only") {
            return std::make_unique<Disk>(name == "read-only");
        }
        return fail(ErrorKind::not_found, "no export '{}'", name);
    }
};

class Place final : public nbd::Admission {
  public:
    explicit Place(nbd::Breaker& breaker) : breaker_(breaker) {}
    bool enter(const tls::Proof*) override {
        require(!std::exchange(inside_, true), "a connection has one place");
        return ++times_ < 8;
    }
    void leave() noexcept override {
        require(std::exchange(inside_, false), "only who entered leaves");
    }
    void failed_to_prove(const nbd::Client&, const Error&) override {}
    std::function<void()> shutdown() override {
        return [this] { breaker_.trip(); };
    }

  private:
    nbd::Breaker& breaker_;
    bool inside_ = false;
    int times_ = 0;
};

/// Whether the client got an export.
bool serve(nbd::Stream& stream, const tls::Credentials* credentials) {
    nbd::Breaker breaker(stream);
    Place place(breaker);
    Provider provider;
    const nbd::Client client{.address = "10.0.0.2:40112"};
    nbd::Handshake handshake(stream, provider, place, client, credentials,
                             std::chrono::seconds(100));
    if (const Result<nbd::Negotiated> negotiated = handshake.run()) {
        require((credentials != nullptr) == (negotiated->encrypted != nullptr),
                "with TLS nobody gets an export without it");
        nbd::Stream& inner = negotiated->encrypted ? *negotiated->encrypted : stream;
        (void)nbd::Transmission(inner, *negotiated, breaker, std::chrono::seconds(100)).run();
        return true;
    }
    return false;
}

}  // namespace

/// The first byte says in which pieces the rest arrives.
void nbd_server(Bytes bytes) {
    Input input(bytes);
    const std::size_t piece = input.number<std::uint8_t>();
    MemoryStream stream(input.rest(), piece);
    (void)serve(stream, nullptr);
}

/// The first byte: 0 for bytes that are no TLS, else in which pieces the rest arrives. The second:
/// whether with certificates, how many bits are flipped on the way, and whose certificate. Then the
/// flips.
void tls_server(Bytes bytes) {
    Input input(bytes);
    const std::size_t piece = input.number<std::uint8_t>();
    const auto kind = input.number<std::uint8_t>();
    const TlsNodes& nodes = tls_nodes((kind & 1U) != 0 ? TlsMode::x509 : TlsMode::psk);
    Flips flips(input, kind >> 1U & 3U);
    const tls::Credentials& who = nodes.who_dials(kind >> 3U & 3U);
    auto session = who.dial("beta");
    require(session.has_value(), "there is a client");
    TlsPeer stream(std::move(*session), input.rest(),
                   {.preface = begins_tls,
                    .plain = plain_answer,
                    .piece = piece * 64,
                    .flips = std::move(flips)});
    require(!serve(stream, nodes.beta.get()) || &who == nodes.alpha.get(),
            "nobody gets an export but who is known");
}

}  // namespace mirror::fuzz
