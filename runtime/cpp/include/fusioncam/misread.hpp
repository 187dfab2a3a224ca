// Files that OpenCV reads otherwise than they are meant. Python mends most of them; here they are refused.
#ifndef FUSIONCAM_MISREAD_HPP
#define FUSIONCAM_MISREAD_HPP

#include <algorithm>
#include <array>
#include <cctype>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

namespace fusioncam {
namespace detail {

/// Whole numbers of a file, by place; 0 behind its end.
struct FileNumbers {
    const std::vector<std::uint8_t> &data;
    bool big; ///< whether the first byte of a number weighs most

    std::uint64_t at(std::size_t place, std::size_t bytes) const {
        std::uint64_t number = 0;
        for (std::size_t i = 0; i < bytes; ++i) {
            const std::size_t byte = place + (big ? i : bytes - 1 - i);
            number = number << 8 | (byte < data.size() ? data[byte] : 0);
        }
        return number;
    }
};

/// The first value of each tag of a TIFF's first picture that is a SHORT or a LONG.
inline std::map<std::uint64_t, std::uint64_t> tiff_tags(const FileNumbers &file) {
    std::map<std::uint64_t, std::uint64_t> tags;
    const auto start = static_cast<std::size_t>(file.at(4, 4));
    const auto count = static_cast<std::size_t>(file.at(start, 2));
    for (std::size_t i = 0; i < count && start + 14 + 12 * i <= file.data.size(); ++i) {
        const std::size_t entry = start + 2 + 12 * i;
        const std::uint64_t type = file.at(entry + 2, 2), length = file.at(entry + 4, 4);
        if (type != 3 && type != 4) {
            continue;
        }
        const std::size_t bytes = type == 3 ? 2 : 4;
        const bool here = length <= 4 / bytes;
        tags[file.at(entry, 2)] = file.at(here ? entry + 8 : static_cast<std::size_t>(file.at(entry + 8, 4)), bytes);
    }
    return tags;
}

inline std::string misread_tiff(const std::vector<std::uint8_t> &data) {
    const std::map<std::uint64_t, std::uint64_t> tags = tiff_tags({data, data[0] == 'M'});
    const auto tag = [&tags](std::uint64_t number, std::uint64_t otherwise) {
        const auto found = tags.find(number);
        return found == tags.end() ? otherwise : found->second;
    };
    const std::uint64_t bits = tag(258, 1), compression = tag(259, 1), colours = tag(262, 1), kind = tag(339, 1);
    if (kind == 2 || kind == 3 || bits > 16) {
        return std::string("has ") + (kind == 3 ? "float" : kind == 2 ? "int" : "uint") + std::to_string(bits) +
               " pixels, whose range is unknown: save it with 8 or 16 bits";
    }
    constexpr std::array<std::uint64_t, 10> known{1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946};
    const bool other_bits = bits > 8 && bits != 16, apart = tag(284, 1) == 2 && tag(277, 1) > 1;
    if (std::find(known.begin(), known.end(), compression) == known.end() || colours == 4 || colours > 6 ||
        other_bits || (bits > 8 && (colours == 0 || apart)) || tags.count(338) ||
        (tags.count(322) && tag(274, 1) != 1)) {
        return "is a TIFF of a kind that is not supported: save it again as PNG or JPEG";
    }
    return "";
}

/// Whether the first frame of a GIF has a transparent colour, which OpenCV replaces.
inline bool has_transparency(const std::vector<std::uint8_t> &data) {
    const FileNumbers file{data, false};
    const std::uint64_t packed = file.at(10, 1);
    std::size_t at = 13 + (packed & 0x80 ? std::size_t{3} << ((packed & 7) + 1) : 0);
    while (at + 3 < data.size() && data[at] == 0x21) {
        if (data[at + 1] == 0xf9 && data[at + 3] & 1) {
            return true;
        }
        for (at += 2; at < data.size() && data[at]; at += 1 + data[at]) {
        }
        ++at;
    }
    return false;
}

/// The greatest value of a Netpbm file, 0 where it cannot be read.
inline long netpbm_most(const std::vector<std::uint8_t> &data) {
    const auto length = static_cast<std::ptrdiff_t>(std::min<std::size_t>(data.size(), 4096));
    const std::string head(data.begin(), data.begin() + length);
    std::size_t at = 2;
    long number = 0;
    for (int i = 0; i < 3; ++i) {
        while (at < head.size() && !std::isdigit(static_cast<unsigned char>(head[at]))) {
            at = head[at] == '#' ? head.find('\n', at) : at + 1;
        }
        if (at >= head.size()) {
            return 0;
        }
        number = std::atol(head.c_str() + at);
        while (at < head.size() && std::isdigit(static_cast<unsigned char>(head[at]))) {
            ++at;
        }
    }
    return number;
}

/// Whether a BMP's masks put its channels in another order than BGR, behind a head after which OpenCV passes them over.
inline bool has_masks_unseen(const std::vector<std::uint8_t> &data) {
    const FileNumbers file{data, false};
    const std::uint64_t head = file.at(14, 4);
    return (head == 40 || head == 52) && file.at(28, 2) == 32 && file.at(30, 4) == 3 &&
           (file.at(54, 4) != 0xff0000 || file.at(58, 4) != 0xff00 || file.at(62, 4) != 0xff);
}

/// Why a file would be read otherwise than it is meant, and what to do, as the end of a sentence; empty where it would
/// not.
inline std::string misread(const std::vector<std::uint8_t> &data) {
    const auto length = static_cast<std::ptrdiff_t>(std::min<std::size_t>(data.size(), 12));
    const std::string head(data.begin(), data.begin() + length);
    const auto begins = [&head](const std::string &with, std::size_t at = 0) {
        return head.size() >= at + with.size() && head.compare(at, with.size(), with) == 0;
    };
    const std::string remedy = ", which is not supported: save it again as PNG or JPEG";
    if (begins({'I', 'I', '*', '\0'}) || begins({'M', 'M', '\0', '*'})) {
        return misread_tiff(data);
    }
    if (begins({'I', 'I', '+', '\0'}) || begins({'M', 'M', '\0', '+'})) {
        return "is a BigTIFF" + remedy;
    }
    if (begins("ftyp", 4)) {
        return "is an AVIF or a HEIC" + remedy;
    }
    if (begins("jP  ", 4) || begins("\xff\x4f\xff\x51")) {
        return "is a JPEG 2000" + remedy;
    }
    if (begins("GIF8") && has_transparency(data)) {
        return "is a GIF with a transparent colour" + remedy;
    }
    if (begins("BM") && FileNumbers{data, false}.at(14, 4) >= 40 && FileNumbers{data, false}.at(28, 2) == 16) {
        return "is a BMP of 16 bits" + remedy;
    }
    if (begins("BM") && has_masks_unseen(data)) {
        return "is a BMP whose channels are in an order of its own" + remedy;
    }
    if (begins("P7")) {
        return "is a PAM" + remedy;
    }
    if (head.size() > 2 && head[0] == 'P' && (head[1] == '2' || head[1] == '3' || head[1] == '5' || head[1] == '6')) {
        const long most = netpbm_most(data);
        if (most != 0 && most != 255 && most != 65535) {
            return "is a Netpbm file whose white is " + std::to_string(most) + remedy;
        }
    }
    return "";
}

} // namespace detail
} // namespace fusioncam

#endif
