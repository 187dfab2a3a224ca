// Files in and out, with the errors people get to see.
#ifndef FUSIONCAM_FILE_HPP
#define FUSIONCAM_FILE_HPP

#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <system_error>
#include <vector>

#include "error.hpp"

namespace fusioncam {
namespace detail {

inline constexpr std::uint64_t MAX_BYTES = std::uint64_t{1} << 30;

/// The bytes of a regular file; throws ImageError where it does not exist, is a folder or a device, is too big or may
/// not be read.
inline std::vector<std::uint8_t> read_file(const std::filesystem::path &path) {
    namespace fs = std::filesystem;
    const std::string name = quoted(path_text(path));
    const auto unreadable = [&name](const std::error_code &why) {
        return ImageError("cannot read " + name + ": " + why.message() + ": check the path and its permissions");
    };
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    if (error == std::errc::no_such_file_or_directory || (!error && !fs::exists(status))) {
        throw ImageError("there is no picture " + name + ": check the path");
    }
    if (error) {
        throw unreadable(error);
    }
    if (fs::is_directory(status)) {
        throw ImageError(name + " is a folder, not a picture: name the files in it");
    }
    if (!fs::is_regular_file(status)) {
        throw ImageError(name + " is not a regular file: copy the picture to a file first");
    }
    const std::uint64_t size = fs::file_size(path, error);
    if (error) {
        throw unreadable(error);
    }
    if (size > MAX_BYTES) {
        throw ImageError(name + " has " + thousands(size) + " bytes, the limit is " + thousands(MAX_BYTES) +
                         ": shrink it first");
    }
    errno = 0;
    std::ifstream file(path, std::ios::binary);
    std::vector<std::uint8_t> data(static_cast<std::size_t>(size));
    if (!file || !file.read(reinterpret_cast<char *>(data.data()), static_cast<std::streamsize>(size))) {
        throw unreadable(std::error_code(errno ? errno : EIO, std::generic_category()));
    }
    return data;
}

/// What to do about a file that cannot be written.
inline std::string advice_on(const std::error_code &error) {
    if (error == std::errc::no_space_on_device) {
        return "free some space or choose another place";
    }
    if (error == std::errc::file_too_large) {
        return "choose a place that takes larger files";
    }
    if (error == std::errc::no_such_file_or_directory) {
        return "make its folder first, or choose another place";
    }
    return error == std::errc::filename_too_long ? "choose a shorter name"
                                                 : "make its folder writable or choose another place";
}

/// Writes a file beside its place and then renames it, so that it is there whole or not at all; throws OutputError.
inline void write_file(const std::filesystem::path &path, const std::vector<std::uint8_t> &data) {
    const std::string name = quoted(path_text(path));
    std::error_code error, ignored;
    if (std::filesystem::exists(path, ignored) && !std::filesystem::is_regular_file(path, ignored)) {
        throw OutputError("cannot write " + name + ": it is not an ordinary file: choose another name");
    }
    std::filesystem::path part = path;
    part += "." + std::to_string(std::random_device{}()) + ".part";
    errno = 0;
    std::ofstream file(part, std::ios::binary);
    file.write(reinterpret_cast<const char *>(data.data()), static_cast<std::streamsize>(data.size()));
    file.close();
    if (!file) {
        error.assign(errno ? errno : EIO, std::generic_category());
    } else {
        std::filesystem::rename(part, path, error);
    }
    if (error) {
        std::filesystem::remove(part, ignored);
        throw OutputError("cannot write " + name + ": " + error.message() + ": " + advice_on(error));
    }
}

} // namespace detail
} // namespace fusioncam

#endif
