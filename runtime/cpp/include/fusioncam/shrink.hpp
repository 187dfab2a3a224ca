// Averaging blocks of pixels, as OpenCV's INTER_AREA does it: the first step for photos much larger than the input.
#ifndef FUSIONCAM_SHRINK_HPP
#define FUSIONCAM_SHRINK_HPP

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "picture.hpp"

namespace fusioncam {
namespace detail {

/// The nearest byte, halves to even.
inline std::uint8_t to_byte(float value) {
    return static_cast<std::uint8_t>(std::clamp(std::nearbyint(value), 0.0F, 255.0F));
}

/// What part of an output a source pixel makes.
struct Share {
    std::size_t to, from;
    float weight;
};

/// The source pixels under each of `count` outputs; those at the edges of an output count by what lies within.
inline std::vector<Share> shares(std::size_t source, std::size_t count) {
    const auto whole = static_cast<double>(source);
    const double scale = 1 / (static_cast<double>(count) / whole);
    std::vector<Share> result;
    for (std::size_t to = 0; to < count; ++to) {
        const double begin = static_cast<double>(to) * scale, end = begin + scale;
        const double width = std::min(scale, whole - begin);
        const auto last = std::min(static_cast<std::size_t>(end), source - 1);
        const auto first = std::min(static_cast<std::size_t>(std::ceil(begin)), last);
        if (static_cast<double>(first) - begin > 1e-3) {
            result.push_back({to, first - 1, static_cast<float>((static_cast<double>(first) - begin) / width)});
        }
        for (std::size_t from = first; from < last; ++from) {
            result.push_back({to, from, static_cast<float>(1 / width)});
        }
        const double rest = end - static_cast<double>(last);
        if (rest > 1e-3) {
            result.push_back({to, last, static_cast<float>(std::min(std::min(rest, 1.0), width) / width)});
        }
    }
    return result;
}

/// Blocks of whole pixels, all alike: an exact sum, rounded once.
inline Photo shrink_blocks(const PhotoView &photo, Size size) {
    const std::size_t high = photo.size.height / size.height, wide = photo.size.width / size.width;
    const float scale = 1.0F / static_cast<float>(high * wide);
    Photo result{size, std::vector<std::uint8_t>(size.height * size.width * 3)};
    std::vector<std::uint32_t> sums(size.width * 3);
    for (std::size_t row = 0; row < size.height; ++row) {
        std::fill(sums.begin(), sums.end(), 0U);
        const std::uint8_t *from = photo.rgb + row * high * photo.size.width * 3;
        for (std::size_t y = 0; y < high; ++y) {
            for (std::size_t to = 0; to < sums.size(); to += 3) {
                for (std::size_t x = 0; x < wide; ++x, from += 3) {
                    for (std::size_t c = 0; c < 3; ++c) {
                        sums[to + c] += from[c];
                    }
                }
            }
        }
        for (std::size_t k = 0; k < sums.size(); ++k) {
            const bool quarter = high == 2 && wide == 2; // for which OpenCV takes halves up
            const float value = quarter ? static_cast<float>((sums[k] + 2) / 4) : static_cast<float>(sums[k]) * scale;
            result.rgb[row * sums.size() + k] = to_byte(value);
        }
    }
    return result;
}

/// The photo at a size that is smaller in no, one or both axes, each pixel the mean of what it covers, rounded.
inline Photo shrink_area(const PhotoView &photo, Size size) {
    if (photo.size.height % size.height == 0 && photo.size.width % size.width == 0) {
        return shrink_blocks(photo, size);
    }
    const std::vector<Share> rows = shares(photo.size.height, size.height);
    const std::vector<Share> columns = shares(photo.size.width, size.width);
    Photo result{size, std::vector<std::uint8_t>(size.height * size.width * 3)};
    std::vector<float> row(size.width * 3), sum(size.width * 3);
    for (std::size_t i = 0; i < rows.size(); ++i) {
        const Share &down = rows[i];
        std::fill(row.begin(), row.end(), 0.0F);
        const std::uint8_t *from = photo.rgb + down.from * photo.size.width * 3;
        for (const Share &across : columns) {
            for (std::size_t c = 0; c < 3; ++c) {
                row[across.to * 3 + c] += static_cast<float>(from[across.from * 3 + c]) * across.weight;
            }
        }
        const bool is_first = i == 0 || rows[i - 1].to != down.to;
        for (std::size_t k = 0; k < row.size(); ++k) {
            sum[k] = (is_first ? 0.0F : sum[k]) + down.weight * row[k];
        }
        if (i + 1 == rows.size() || rows[i + 1].to != down.to) {
            std::uint8_t *to = &result.rgb[down.to * row.size()];
            std::transform(sum.begin(), sum.end(), to, to_byte);
        }
    }
    return result;
}

} // namespace detail
} // namespace fusioncam

#endif
