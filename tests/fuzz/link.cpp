// SPDX-License-Identifier: BSD-3-Clause
// A server that says anything to our client: dialling, the link, the mailbox's asking side, with
// libnbd between. Whatever comes, the asker gets a value or an error, and in time.
#include <array>
#include <cstring>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <thread>
#include <unistd.h>

#include "core/base/fd.hpp"
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

    /// One connection: says all of `words`, listens to the client until it has said them and
    /// something more, and hangs up.
    void serve(Bytes words) const {
        const Fd client(::accept(listener_.get(), nullptr, nullptr));
        while (!words.empty()) {
            const ssize_t sent =
                ::send(client.get(), words.data(), words.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
            if (sent < 0 && errno != EAGAIN) {
                return;
            }
            words = words.subspan(static_cast<std::size_t>(std::max<ssize_t>(sent, 0)));
            listen_a_while(client.get(), sent < 0 ? 10 : 0);
        }
        (void)::shutdown(client.get(), SHUT_WR);
        while (listen_a_while(client.get(), 1000)) {
        }
    }

  private:
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
    std::thread liar([&] { server.serve(bytes); });
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
