// SPDX-License-Identifier: BSD-3-Clause
// A server that says anything to our client over a real socket: dialling, the link with its thread,
// the mailbox's asking side. Whatever comes, the asker gets a value or an error, and in time.
#include <array>
#include <cstring>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <thread>
#include <unistd.h>

#include "core/base/fd.hpp"
#include "core/base/json.hpp"
#include "core/control/mailbox.hpp"
#include "input.hpp"
#include "temp_folder.hpp"

namespace mirror::fuzz {
namespace {

class LyingServer {
  public:
    LyingServer()
        : path_(temp_folder() + "/liar.sock"), listener_(::socket(AF_UNIX, SOCK_STREAM, 0)) {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        path_.copy(address.sun_path, sizeof address.sun_path - 1);
        require(::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address),
                       sizeof address) == 0 &&
                    ::listen(listener_.get(), 1) == 0,
                "there is a socket to listen on");
    }
    [[nodiscard]] const std::string& path() const noexcept { return path_; }

    /// One connection: says a part of the script each time when the client has said something, or
    /// seems to wait for more, and hangs up behind the last. A part: its length, 2 bytes, and that
    /// many bytes.
    void serve(Input script) const {
        const Fd client(::accept(listener_.get(), nullptr, nullptr));
        for (int parts = 0; parts < most_parts && !script.at_end(); ++parts) {
            if (!say(client.get(), script.bytes(script.number<std::uint16_t>()))) {
                return;
            }
            listen_a_while(client.get(), patience);
        }
        (void)::shutdown(client.get(), SHUT_WR);
        while (listen_a_while(client.get(), 1000)) {
        }
    }

  private:
    static constexpr int patience = 2;  ///< milliseconds
    static constexpr int most_parts = 8;

    /// Listens between, so that both can't wait for each other. False when the client has gone.
    static bool say(int client, Bytes words) {
        while (!words.empty()) {
            const ssize_t sent =
                ::send(client, words.data(), words.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
            if (sent < 0 && errno != EAGAIN) {
                return false;
            }
            words = words.subspan(static_cast<std::size_t>(std::max<ssize_t>(sent, 0)));
            if (sent < 0) {
                listen_a_while(client, 5 * patience);
            }
        }
        return true;
    }
    /// False when the client has gone, or says nothing for so long.
    static bool listen_a_while(int client, int milliseconds) {
        std::array<char, 4096> heard{};
        pollfd entry{.fd = client, .events = POLLIN, .revents = 0};
        return ::poll(&entry, 1, milliseconds) > 0 &&
               ::recv(client, heard.data(), heard.size(), MSG_DONTWAIT) > 0;
    }

    std::string path_;
    Fd listener_;
};

}  // namespace

void link(Bytes bytes) {
    static const LyingServer server;
    std::thread liar([&] { server.serve(Input(bytes)); });
    const nbd::Address address{.tcp = {}, .unix_path = server.path()};
    constexpr std::chrono::milliseconds most{5000};
    if (auto client = control::MailboxClient::connect(address, "liar", most)) {
        for (int i = 0; i < 2; ++i) {
            const auto answer = client->ask({{"request", "version"}});
            require(answer || !answer.error().message.empty(), "a failure has a reason");
        }
    }
    liar.join();
}

}  // namespace mirror::fuzz
