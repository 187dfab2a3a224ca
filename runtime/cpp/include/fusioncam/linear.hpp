// OpenCV's INTER_LINEAR for pictures of 8 bits, in the same whole numbers: the filter of letterboxes, without OpenCV.
#ifndef FUSIONCAM_LINEAR_HPP
#define FUSIONCAM_LINEAR_HPP

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "picture.hpp"
#include "shrink.hpp"

namespace fusioncam {
namespace detail {

/// What makes one output of an axis: two inputs, by weights in 2048ths.
struct Between {
    std::size_t low, high;
    std::int32_t near, far;
};

/// The same for all outputs of an axis. Beyond its ends columns take the last pixel alone, rows blend it with itself,
/// which rounds in another way.
inline std::vector<Between> between(std::size_t source, std::size_t count, bool rows) {
    const double scale = 1 / (static_cast<double>(count) / static_cast<double>(source));
    const auto last = static_cast<std::int64_t>(source) - 1;
    std::vector<Between> result;
    result.reserve(count);
    for (std::size_t i = 0; i < count; ++i) {
        const auto place = static_cast<float>((static_cast<double>(i) + 0.5) * scale - 0.5);
        const auto low = static_cast<std::int64_t>(std::floor(place));
        float share = place - static_cast<float>(low);
        if (!rows && (low < 0 || low >= last)) {
            share = 0;
        }
        const auto pixel = [last](std::int64_t n) {
            return static_cast<std::size_t>(std::clamp<std::int64_t>(n, 0, last));
        };
        const auto weight = [](float w) { return static_cast<std::int32_t>(std::nearbyint(w * 2048)); };
        result.push_back({pixel(low), pixel(low + 1), weight(1 - share), weight(share)});
    }
    return result;
}

/// The photo at another size; one that is halved in both axes is averaged, as OpenCV does.
inline Photo resized_linearly(const PhotoView &photo, Size size) {
    if (photo.size.height == 2 * size.height && photo.size.width == 2 * size.width) {
        return shrink_blocks(photo, size);
    }
    Photo result{size, std::vector<std::uint8_t>(size.height * size.width * 3)};
    if (photo.size == size) {
        std::copy_n(photo.rgb, result.rgb.size(), result.rgb.begin());
        return result;
    }
    const std::vector<Between> rows = between(photo.size.height, size.height, true);
    const std::vector<Between> columns = between(photo.size.width, size.width, false);
    const auto across = [&](std::size_t row) {
        const std::uint8_t *from = photo.rgb + row * photo.size.width * 3;
        std::vector<std::int32_t> values;
        values.reserve(columns.size() * 3);
        for (const Between &column : columns) {
            for (std::size_t c = 0; c < 3; ++c) {
                values.push_back(from[column.low * 3 + c] * column.near + from[column.high * 3 + c] * column.far);
            }
        }
        return values;
    };
    for (std::size_t i = 0; i < rows.size(); ++i) {
        const auto &[low, high, near, far] = rows[i];
        const std::vector<std::int32_t> above = across(low), below = across(high);
        for (std::size_t k = 0; k < above.size(); ++k) {
            const std::int32_t sum = ((near * (above[k] >> 4)) >> 16) + ((far * (below[k] >> 4)) >> 16);
            result.rgb[i * above.size() + k] = static_cast<std::uint8_t>(std::clamp((sum + 2) >> 2, 0, 255));
        }
    }
    return result;
}

} // namespace detail
} // namespace fusioncam

#endif
