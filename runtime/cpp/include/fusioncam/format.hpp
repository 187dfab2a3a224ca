// What picture files say about themselves, read before anything is decoded.
#ifndef FUSIONCAM_FORMAT_HPP
#define FUSIONCAM_FORMAT_HPP

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

namespace fusioncam {
namespace detail {

using Bytes = std::vector<std::uint8_t>;

enum class Order { big, little, signed_little, less_one, webp_lossless };

/// Where a format declares its size. In a pattern, two hexadecimal digits stand for a byte and .. for any; << and >>
/// are bytes of the first and second field; the names stand for a byte of a few: a start of a JPEG frame, the low byte
/// of its length, its depth, how many components it has, a TIFF type of whole numbers.
struct Format {
    const char *head; ///< how the file begins, as a pattern
    bool anywhere;    ///< whether the pattern, which then begins with a certain byte, may begin anywhere in the file
    const char *pattern;
    Order order;
};

// OpenCV's own limit is read once, when the library is loaded, and lets much larger pictures pass. A JPEG or TIFF may
// hold a thumbnail, too: the largest size found is the one that counts.
inline constexpr std::array<Format, 12> FORMATS{{
    {"89504e47", false, "................................<<<<<<<<>>>>>>>>", Order::big},
    {"ffd8ff", true, "ffFR00LEDE<<<<>>>>CO", Order::big},
    {"47494638", false, "............<<<<>>>>", Order::little},
    {"424d", false, "424d........00000000................<<<<<<<<>>>>>>>>", Order::signed_little},
    {"52494646", false, "................5745425056503858................<<<<<<>>>>>>", Order::less_one},
    {"52494646", false, "................5745425056503820..............9d012a<<<<>>>>", Order::little},
    {"52494646", false, "................574542505650384c........2f<<<<<<<<", Order::webp_lossless},
    {"49492a00", true, "0001TY0001000000<<<<<<<<0101TY0001000000>>>>>>>>", Order::little},
    {"4d4d002a", true, "0100000300000001<<<<....0101000300000001>>>>", Order::big},
    {"4d4d002a", true, "0100000400000001<<<<<<<<0101000400000001>>>>>>>>", Order::big},
    {"000000", true, "69686472<<<<<<<<>>>>>>>>", Order::big},
    {"000000", true, "6973706500000000<<<<<<<<>>>>>>>>", Order::big},
}};

/// The byte that two hexadecimal digits stand for.
inline std::uint8_t literal(std::string_view token) {
    const auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
    return static_cast<std::uint8_t>(16 * digit(token[0]) + digit(token[1]));
}

inline bool fits(std::string_view token, std::uint8_t byte) {
    if (token == "FR") {
        return byte >= 0xc0 && byte <= 0xcf && byte != 0xc4 && byte != 0xc8 && byte != 0xcc;
    }
    if (token == "LE") {
        return byte == 0x0b || byte == 0x0e || byte == 0x11 || byte == 0x14;
    }
    if (token == "DE") {
        return byte >= 2 && byte <= 16;
    }
    if (token == "CO") {
        return byte >= 1 && byte <= 4;
    }
    if (token == "TY") {
        return byte == 3 || byte == 4;
    }
    if (token == ".." || token == "<<" || token == ">>") {
        return true;
    }
    return byte == literal(token);
}

/// Whether a pattern fits at a place; puts the bytes of its two fields into `fields`.
inline bool fits_at(const Bytes &data, std::size_t at, std::string_view pattern, std::array<Bytes, 2> &fields) {
    const std::size_t count = pattern.size() / 2;
    if (at > data.size() || data.size() - at < count) {
        return false;
    }
    fields = {};
    for (std::size_t i = 0; i < count; ++i) {
        const std::string_view token = pattern.substr(2 * i, 2);
        if (!fits(token, data[at + i])) {
            return false;
        }
        if (token == "<<" || token == ">>") {
            fields[token == ">>"].push_back(data[at + i]);
        }
    }
    return true;
}

inline std::uint64_t number(Bytes bytes, Order order) {
    if (order == Order::big) {
        std::reverse(bytes.begin(), bytes.end());
    }
    std::uint64_t value = 0;
    for (std::size_t i = bytes.size(); i > 0; --i) {
        value = value << 8 | bytes[i - 1];
    }
    // A BMP whose height is negative begins with its top row.
    const bool negative = order == Order::signed_little && value >> 31;
    return negative ? (std::uint64_t{1} << 32) - value : value + (order == Order::less_one);
}

/// Pixels the file says it holds; 0 where it is of a format outside the table.
inline std::uint64_t declared_pixels(const Bytes &data) {
    std::uint64_t most = 0;
    std::array<Bytes, 2> fields;
    for (const Format &format : FORMATS) {
        if (!fits_at(data, 0, format.head, fields)) {
            continue;
        }
        for (std::size_t at = 0; at < data.size(); ++at) {
            if (format.anywhere) {
                const void *next = std::memchr(&data[at], literal(format.pattern), data.size() - at);
                if (!next) {
                    break;
                }
                at = static_cast<std::size_t>(static_cast<const std::uint8_t *>(next) - data.data());
            }
            if (fits_at(data, at, format.pattern, fields)) {
                const std::uint64_t one = number(fields[0], format.order), other = number(fields[1], format.order);
                const bool packed = format.order == Order::webp_lossless;
                most = std::max(most, packed ? ((one & 0x3fff) + 1) * ((one >> 14 & 0x3fff) + 1) : one * other);
            }
            if (!format.anywhere) {
                break;
            }
        }
    }
    return most;
}

inline std::uint32_t crc32(const std::uint8_t *data, std::size_t size) {
    static const std::array<std::uint32_t, 256> table = [] {
        std::array<std::uint32_t, 256> made{};
        for (std::uint32_t i = 0; i < 256; ++i) {
            made[i] = i;
            for (int bit = 0; bit < 8; ++bit) {
                made[i] = made[i] >> 1 ^ (made[i] & 1 ? 0xedb88320U : 0U);
            }
        }
        return made;
    }();
    std::uint32_t crc = 0xffffffffU;
    for (std::size_t i = 0; i < size; ++i) {
        crc = crc >> 8 ^ table[(crc ^ data[i]) & 0xff];
    }
    return ~crc;
}

/// Walks the chunks up to IEND: libpng writes to stderr about a bad one before OpenCV can report it.
inline bool png_is_whole(const Bytes &data) {
    const auto word = [&data](std::size_t at) {
        return std::uint32_t{data[at]} << 24 | std::uint32_t{data[at + 1]} << 16 | std::uint32_t{data[at + 2]} << 8 |
               data[at + 3];
    };
    for (std::size_t at = 8; at + 12 <= data.size();) {
        const std::size_t length = word(at);
        if (length > data.size() - at - 12 || crc32(&data[at + 4], length + 4) != word(at + 8 + length)) {
            return false;
        }
        if (std::memcmp(&data[at + 4], "IEND", 4) == 0) {
            return true;
        }
        at += 12 + length;
    }
    return false;
}

/// Walks the segments up to the picture's data, past thumbnails, and looks for its end: OpenCV may fill up what lacks.
inline bool jpeg_is_whole(const Bytes &data) {
    for (std::size_t at = 2; at + 4 <= data.size() && data[at] == 0xff;) {
        if (data[at + 1] == 0xff) { // fill byte
            ++at;
            continue;
        }
        if (data[at + 1] == 0xda) {
            const std::array<std::uint8_t, 2> end{0xff, 0xd9};
            return std::search(data.begin() + static_cast<std::ptrdiff_t>(at), data.end(), end.begin(), end.end()) !=
                   data.end();
        }
        at += 2U + (std::size_t{data[at + 2]} << 8 | data[at + 3]);
    }
    return false;
}

/// Whether a file that can be checked for it without decoding is whole; other formats count as whole.
inline bool is_whole(const Bytes &data) {
    std::array<Bytes, 2> fields;
    if (fits_at(data, 0, "89504e470d0a1a0a", fields)) {
        return png_is_whole(data);
    }
    return !fits_at(data, 0, "ffd8ff", fields) || jpeg_is_whole(data);
}

/// AVIF and JPEG 2000 hold 10 or 12 bits a sample, which OpenCV hands out unscaled in 16: asked for 8, it scales them.
inline bool is_deep(const Bytes &data) {
    std::array<Bytes, 2> fields;
    return fits_at(data, 4, "66747970", fields) || fits_at(data, 4, "6a502020", fields);
}

} // namespace detail
} // namespace fusioncam

#endif
