// SPDX-License-Identifier: BSD-3-Clause
#include "daemon/device/nl_socket.hpp"

#include <cerrno>

namespace mirror::daemon {
namespace {

constexpr int unanswered = -1;

struct Answer {
    int error = unanswered;
};

int take_error(sockaddr_nl*, nlmsgerr* error, void* answer) noexcept {
    static_cast<Answer*>(answer)->error = -error->error;
    return NL_STOP;
}

int take_ack(nl_msg*, void* answer) noexcept {
    static_cast<Answer*>(answer)->error = 0;
    return NL_STOP;
}

}  // namespace

Result<NlSocket> NlSocket::open() {
    NlSocket result;
    result.socket_.reset(::nl_socket_alloc());
    if (!result.socket_) {
        return fail(ErrorKind::internal, "no memory for a netlink socket");
    }
    if (const int code = ::genl_connect(result.get()); code < 0) {
        return fail(ErrorKind::internal, "connecting to the kernel's netlink: {}",
                    ::nl_geterror(code));
    }
    result.family_ = ::genl_ctrl_resolve(result.get(), NBD_GENL_FAMILY_NAME);
    if (result.family_ < 0) {
        return Failure(
            Error{ErrorKind::not_found, "the kernel's nbd driver is not loaded", "modprobe nbd"});
    }
    return result;
}

NlMessage NlSocket::request(int command) const {
    NlMessage message(::nlmsg_alloc());
    if (message &&
        ::genlmsg_put(message.get(), NL_AUTO_PORT, NL_AUTO_SEQ, family_, 0, NLM_F_REQUEST,
                      static_cast<std::uint8_t>(command), NBD_GENL_VERSION) == nullptr) {
        message.reset();
    }
    return message;
}

int NlSocket::run(NlMessage message) const {
    if (!message) {
        return ENOMEM;
    }
    Answer answer;
    ::nl_socket_modify_err_cb(get(), NL_CB_CUSTOM, take_error, &answer);
    ::nl_socket_modify_cb(get(), NL_CB_ACK, NL_CB_CUSTOM, take_ack, &answer);
    if (::nl_send_auto(get(), message.get()) < 0) {
        return EIO;
    }
    while (answer.error == unanswered) {
        // A reply of the command may come before the acknowledgement.
        if (const int code = ::nl_recvmsgs_default(get());
            code < 0 && answer.error == unanswered && code != -NLE_INTR) {
            return EIO;
        }
    }
    return answer.error;
}

}  // namespace mirror::daemon
