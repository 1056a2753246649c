// SPDX-License-Identifier: BSD-3-Clause
// Bytes that are nobody else's: a key that was retired, or one that was only read to be compared,
// must not be found in memory that was given back, in a core file or in swap. They have pages of
// their own, which are left out of core files, locked where the limits allow it, and wiped before
// they go back. Values; any thread.
#pragma once

#include <cstddef>
#include <cstring>
#include <new>
#include <string_view>
#include <sys/mman.h>
#include <vector>

namespace mirror::tls {

template <typename Value>
struct SecretAllocator {
    using value_type = Value;

    SecretAllocator() noexcept = default;
    template <typename Other>
    SecretAllocator(const SecretAllocator<Other>&) noexcept {}

    [[nodiscard]] Value* allocate(std::size_t count) {
        const std::size_t bytes = count * sizeof(Value);
        void* pages =
            ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (pages == MAP_FAILED) {
            throw std::bad_alloc();
        }
        // Without either the bytes are what all others are.
        (void)::madvise(pages, bytes, MADV_DONTDUMP);
        (void)::mlock(pages, bytes);
        return static_cast<Value*>(pages);
    }
    void deallocate(Value* pages, std::size_t count) noexcept {
        ::explicit_bzero(pages, count * sizeof(Value));
        (void)::munmap(pages, count * sizeof(Value));
    }
    friend bool operator==(const SecretAllocator&, const SecretAllocator&) noexcept { return true; }
};

class Secret {
  public:
    using Bytes = std::vector<std::byte, SecretAllocator<std::byte>>;

    Secret() = default;
    explicit Secret(std::size_t size) : bytes_(size) {}
    Secret(Bytes bytes) noexcept : bytes_(std::move(bytes)) {}
    /// From memory that the caller wipes, or that is no secret (in tests).
    Secret(const std::vector<std::byte>& bytes) : bytes_(bytes.begin(), bytes.end()) {}
    template <typename Iterator>
    Secret(Iterator begin, Iterator end) : bytes_(begin, end) {}

    [[nodiscard]] std::size_t size() const noexcept { return bytes_.size(); }
    [[nodiscard]] bool empty() const noexcept { return bytes_.empty(); }
    [[nodiscard]] const std::byte* data() const noexcept { return bytes_.data(); }
    [[nodiscard]] std::byte* data() noexcept { return bytes_.data(); }
    [[nodiscard]] std::byte at(std::size_t index) const { return bytes_.at(index); }
    [[nodiscard]] auto begin() const noexcept { return bytes_.begin(); }
    [[nodiscard]] auto end() const noexcept { return bytes_.end(); }
    void push_back(std::byte byte) { bytes_.push_back(byte); }
    void reserve(std::size_t size) { bytes_.reserve(size); }
    void resize(std::size_t size) { bytes_.resize(size); }
    void assign(std::size_t size, std::byte byte) { bytes_.assign(size, byte); }
    /// As text; it is not copied.
    [[nodiscard]] std::string_view text() const noexcept {
        return {reinterpret_cast<const char*>(bytes_.data()), bytes_.size()};
    }
    friend bool operator==(const Secret&, const Secret&) = default;
    friend bool operator==(const Secret& secret, const std::vector<std::byte>& bytes) {
        return secret == Secret(bytes);
    }

  private:
    Bytes bytes_;
};

}  // namespace mirror::tls
