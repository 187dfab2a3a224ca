// Pictures in files without any library: binary PPM (P6, 8 bits), which every tool for pictures converts to and from.
#ifndef FUSIONCAM_PPM_HPP
#define FUSIONCAM_PPM_HPP

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "error.hpp"
#include "file.hpp"
#include "picture.hpp"

namespace fusioncam {
namespace ppm {

/// Decodes a picture; throws ImageError, which calls it `name`, where it is none, is cut short or too large.
inline Photo decode_image(const std::vector<std::uint8_t> &data, const std::string &name = "the picture") {
    if (data.empty()) {
        throw ImageError(name + " is empty: copy or download the picture again");
    }
    std::size_t at = 2;
    const auto byte = [&data, &at] { return at < data.size() ? data[at] : std::uint8_t{0}; };
    const auto is_blank = [&byte] { return byte() == ' ' || (byte() >= '\t' && byte() <= '\r'); };
    const auto number = [&] {
        while (is_blank() || byte() == '#') {
            const bool comment = byte() == '#';
            do {
                ++at;
            } while (comment && at < data.size() && data[at] != '\n');
        }
        std::uint64_t value = 0;
        for (; byte() >= '0' && byte() <= '9'; ++at) {
            value =
                value <= MAX_PIXELS ? 10 * value + (byte() - '0') : value; // of larger ones the product would overflow
        }
        return value;
    };
    const bool is_ppm = data.size() > 2 && data[0] == 'P' && data[1] == '6';
    const std::uint64_t width = is_ppm ? number() : 0, height = is_ppm ? number() : 0, most = is_ppm ? number() : 0;
    if (width * height > MAX_PIXELS || width > MAX_PIXELS || height > MAX_PIXELS) {
        throw ImageError(name + " has " + detail::thousands(width * height) + " pixels, the limit is " +
                         detail::thousands(MAX_PIXELS) + ": shrink it first");
    }
    const std::uint64_t count = width * height * 3;
    if (!is_blank() || most != 255 || count == 0 || data.size() - at - 1 < count) {
        throw ImageError(name +
                         " is not a picture, or is damaged or cut short: save it again as binary PPM with 8 bits; "
                         "other formats need OpenCV");
    }
    const auto first = data.begin() + static_cast<std::ptrdiff_t>(at) + 1;
    return {{static_cast<std::size_t>(height), static_cast<std::size_t>(width)},
            {first, first + static_cast<std::ptrdiff_t>(count)}};
}

/// Reads a picture as `decode_image` does; throws ImageError also where there is no such file, or it may not be read.
inline Photo read_image(const std::filesystem::path &path) {
    return decode_image(detail::read_file(path), detail::quoted(detail::path_text(path)));
}

/// Writes a picture, whole or not at all; throws OutputError where it cannot.
inline void write_image(const std::filesystem::path &path, const PhotoView &photo) {
    const std::string name = detail::quoted(detail::path_text(path));
    if (path.extension() != ".ppm") {
        throw OutputError("cannot write " + name + ": only PPM is written without OpenCV: name it .ppm");
    }
    const std::string head =
        "P6\n" + std::to_string(photo.size.width) + " " + std::to_string(photo.size.height) + "\n255\n";
    std::vector<std::uint8_t> data(head.begin(), head.end());
    data.insert(data.end(), photo.rgb, photo.rgb + photo.size.height * photo.size.width * 3);
    detail::write_file(path, data);
}

} // namespace ppm
} // namespace fusioncam

#endif
