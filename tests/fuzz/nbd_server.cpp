// SPDX-License-Identifier: BSD-3-Clause
// A client's bytes from the greeting on, through handshake and transmission, over a stream in
// memory that hands them out in pieces; plain, and through TLS. The exports see to it that the
// server keeps what it promises to them (core/nbd/export.hpp).
#include <memory>
#include <vector>

#include "core/control/mailbox.hpp"
#include "core/nbd/framed_export.hpp"
#include "core/nbd/handshake.hpp"
#include "core/nbd/transmission.hpp"
#include "core/tls/psk_file.hpp"
#include "disk_traits.hpp"
#include "input.hpp"
#include "temp_folder.hpp"

namespace mirror::fuzz {
namespace {

constexpr std::uint64_t disk_size = 64 * KiB;
/// Of one batch of replies and what comes behind the threshold.
constexpr std::size_t most_in_one_send = 64 * MiB;

class MemoryStream final : public nbd::Stream {
  public:
    MemoryStream(Bytes input, std::size_t piece) : rest_(input), piece_(piece) {}

    Result<std::size_t> recv_some(std::span<std::byte> into, const nbd::Patience&) override {
        require(!into.empty(), "the server has room for what it receives");
        const std::size_t count = ended_ ? 0 : std::min({into.size(), piece_, rest_.size()});
        std::copy_n(rest_.begin(), count, into.begin());
        rest_ = rest_.subspan(count);
        return count;
    }
    Result<void> send_all(std::span<const std::byte> from, const nbd::Patience&) override {
        require(from.size() <= most_in_one_send, "replies do not pile up");
        return {};
    }
    void shutdown() noexcept override { ended_ = true; }

  private:
    Bytes rest_;
    const std::size_t piece_;
    bool ended_ = false;
};

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
    bool enter(const nbd::Client&) override {
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

/// A client that begins TLS and says its words behind it, or in the place of it.
class TlsClient final : public nbd::Stream {
  public:
    TlsClient(tls::Session session, Bytes words, std::size_t piece)
        : session_(std::move(session)), words_(words), piece_(piece) {
        say(std::as_bytes(std::span("\0\0\0\3IHAVEOPT\0\0\0\5\0\0\0", 20)));
    }

    Result<std::size_t> recv_some(std::span<std::byte> into, const nbd::Patience&) override {
        if (to_server_.empty() && !ended_) {
            go_on();
        }
        const std::size_t count = ended_ ? 0 : std::min(into.size(), to_server_.size());
        std::copy_n(to_server_.begin(), count, into.begin());
        to_server_.erase(to_server_.begin(),
                         to_server_.begin() + static_cast<std::ptrdiff_t>(count));
        return count;
    }
    Result<void> send_all(std::span<const std::byte> from, const nbd::Patience&) override {
        // The greeting and the answer to STARTTLS; what comes then is TLS.
        const std::size_t plain = std::min(from.size(), plain_left_);
        plain_left_ -= plain;
        from = from.subspan(plain);
        while (!from.empty()) {
            const std::span<std::byte> space = session_.input_space();
            const std::size_t count = std::min(space.size(), from.size());
            std::copy_n(from.begin(), count, space.begin());
            session_.input_filled(count);
            from = from.subspan(count);
            listen();
        }
        return {};
    }
    void shutdown() noexcept override { ended_ = true; }

  private:
    void say(std::span<const std::byte> bytes) {
        to_server_.insert(to_server_.end(), bytes.begin(), bytes.end());
    }
    void flush() {
        say(session_.output());
        session_.output_taken(session_.output().size());
    }
    void listen() {
        if (established_) {
            std::vector<std::byte> heard(64 * KiB);
            (void)session_.receive(heard);
        } else if (const auto step = session_.handshake()) {
            established_ = *step == tls::Session::Progress::done;
        }
        flush();
    }
    /// The server waits for us.
    void go_on() {
        if (piece_ == 0) {
            say(words_);
            words_ = {};
        } else if (!established_) {
            listen();
        } else if (!words_.empty()) {
            const std::size_t count = std::min(piece_, words_.size());
            (void)session_.send(words_.first(count));
            words_ = words_.subspan(count);
            flush();
        }
    }

    tls::Session session_;
    Bytes words_;
    const std::size_t piece_;
    std::size_t plain_left_ = 18 + 20;
    std::vector<std::byte> to_server_;
    bool established_ = false;
    bool ended_ = false;
};

void serve(nbd::Stream& stream, const tls::Credentials* credentials) {
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
    }
}

std::shared_ptr<const tls::Credentials> make_credentials() {
    Config config;
    config.tls.psk_file = temp_folder() + "/fuzz.psk";
    const auto key = tls::new_psk_key("20261127");
    require(key && tls::write_psk_file(config.tls.psk_file, {*key}), "there is a key");
    return tls::Credentials::of(config, "beta");
}

}  // namespace

/// The first byte says in which pieces the rest arrives.
void nbd_server(Bytes bytes) {
    Input input(bytes);
    const std::size_t piece = input.number<std::uint8_t>();
    MemoryStream stream(input.rest(), piece == 0 ? 1 * MiB : piece);
    serve(stream, nullptr);
}

/// The first byte: 0 for bytes that are no TLS, else in which pieces the rest arrives.
void tls_server(Bytes bytes) {
    static const auto credentials = make_credentials();
    Input input(bytes);
    const std::size_t piece = input.number<std::uint8_t>();
    auto session = credentials->dial("beta");
    require(session.has_value(), "there is a client");
    TlsClient stream(std::move(*session), input.rest(), piece * 64);
    serve(stream, credentials.get());
}

}  // namespace mirror::fuzz
