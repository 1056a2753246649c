// SPDX-License-Identifier: BSD-3-Clause
#include "core/nbd/tls_stream.hpp"

#include <algorithm>

#include "core/base/units.hpp"

namespace mirror::nbd {
namespace {

/// Encrypted at a time: bounds what waits to be sent, at few calls of the kernel.
constexpr std::size_t piece = 256 * KiB;

}  // namespace

TlsStream::~TlsStream() {
    if (is_whole_) {
        session_.say_goodbye();
        (void)send_output({.until = std::chrono::steady_clock::now()});
    }
}

tls::Session TlsStream::take_session() noexcept {
    is_whole_ = false;
    return std::move(session_);
}

Result<void> TlsStream::handshake(const Patience& patience) {
    for (;;) {
        const auto step = session_.handshake();
        // An alert says why it failed; the connection ends whether it arrives or not.
        const Result<void> sent = send_output(patience);
        if (!step || !sent) {
            is_whole_ = false;
            return step ? sent : Failure(step.error());
        }
        if (*step == tls::Session::Progress::done) {
            return {};
        }
        if (auto brought = bring_input(patience); !brought) {
            is_whole_ = false;
            return brought;
        }
    }
}

Result<std::size_t> TlsStream::recv_some(std::span<std::byte> into, const Patience& patience) {
    for (;;) {
        auto got = session_.receive(into);
        if (!got) {
            is_whole_ = false;
            (void)send_output({.until = std::chrono::steady_clock::now()});
            // Other than the end of a stream that said so, but nothing that an answer would help.
            return got.error().kind == ErrorKind::unreachable ? Result<std::size_t>(0) : got;
        }
        if (*got > 0 || session_.is_ended()) {
            return got;
        }
        // Receiving may have to answer: a change of keys.
        if (auto sent = send_output(patience); !sent) {
            return Failure(sent.error());
        }
        if (auto brought = bring_input(patience); !brought) {
            return Failure(brought.error());
        }
    }
}

Result<void> TlsStream::send_all(std::span<const std::byte> from, const Patience& patience) {
    while (!from.empty()) {
        const std::size_t count = std::min(from.size(), piece);
        Result<void> done = session_.send(from.first(count));
        if (done) {
            done = send_output(patience);
        }
        if (!done) {
            is_whole_ = false;
            return done;
        }
        from = from.subspan(count);
    }
    return {};
}

Result<void> TlsStream::bring_input(const Patience& patience) {
    const auto got = below_.recv_some(session_.input_space(), patience);
    if (!got) {
        return Failure(got.error());
    }
    if (*got == 0) {
        session_.input_ended();
    } else {
        session_.input_filled(*got);
    }
    return {};
}

Result<void> TlsStream::send_output(const Patience& patience) {
    const std::span<const std::byte> output = session_.output();
    if (output.empty()) {
        return {};
    }
    Result<void> sent = below_.send_all(output, patience);
    session_.output_taken(output.size());
    return sent;
}

}  // namespace mirror::nbd
