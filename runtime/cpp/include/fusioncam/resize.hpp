// An axis of a photo on its way to the model's input, and the filters that resize it.
#ifndef FUSIONCAM_RESIZE_HPP
#define FUSIONCAM_RESIZE_HPP

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "picture.hpp"

namespace fusioncam {
namespace detail {

constexpr double pi = 3.14159265358979323846;

/// Bilinear interpolation along an axis, one entry per output: (1 - weight) in[low] + weight in[high].
struct Tap {
    std::size_t low, high;
    float weight;
};

/// One axis of a photo: its `whole` pixels are resized to `resized`, of which `size` are kept, from `start` on. Where
/// the photo is cut before it is resized, `resized` and `start` are what they would be of the whole photo. Where it is
/// padded, `start` is negative: so many pixels lie before it.
struct Axis {
    std::int64_t whole;
    double resized, start;
    std::int64_t size;

    /// First of the photo's pixels whose centres the cut kept, and the one after the last; at least one pixel.
    std::pair<std::size_t, std::size_t> seen() const {
        const auto pixel = [this](double edge) {
            return static_cast<std::int64_t>(std::ceil(edge * static_cast<double>(whole) / resized - 0.5));
        };
        const std::int64_t first = std::clamp<std::int64_t>(pixel(start), 0, whole - 1);
        const std::int64_t end = std::min(std::max(pixel(start + static_cast<double>(size)), first + 1), whole);
        return {static_cast<std::size_t>(first), static_cast<std::size_t>(end)};
    }

    /// First of the model input's pixels that show the photo, and no padding, and the one after the last.
    std::pair<std::size_t, std::size_t> filled() const {
        const auto first = std::max<std::int64_t>(static_cast<std::int64_t>(std::nearbyint(-start)), 0);
        const auto end = std::min(static_cast<std::int64_t>(std::nearbyint(resized - start)), size);
        return {static_cast<std::size_t>(first), static_cast<std::size_t>(end)};
    }

    /// Where the centres of the photo's pixels from `first` to `end` - 1 landed between those of the model's input.
    std::vector<Tap> taps(std::size_t first, std::size_t end) const {
        std::vector<Tap> result;
        result.reserve(end - first);
        const std::size_t least = filled().first, last = filled().second - 1;
        for (std::size_t i = first; i < end; ++i) {
            const double centre = static_cast<double>(i) + 0.5;
            const double place = centre * resized / static_cast<double>(whole) - 0.5;
            const double at = std::clamp(place - start, static_cast<double>(least), static_cast<double>(last));
            const auto low = static_cast<std::size_t>(at);
            const std::size_t high = std::min(low + 1, last);
            result.push_back({low, high, static_cast<float>(at - static_cast<double>(low))});
        }
        return result;
    }
};

/// sin(pi x) / (pi x).
inline double sinc(double x) { return x == 0 ? 1 : std::sin(pi * x) / (pi * x); }

/// The filters of Pillow: how many samples they reach to either side, and the weight at a distance from the centre.
struct Kernel {
    double reach;
    double (*weight)(double);
};

inline Kernel kernel(const std::string &interpolation) {
    if (interpolation == "bicubic") {
        return {2, [](double d) {
                    const double near = (1.5 * d - 2.5) * d * d + 1, far = ((-0.5 * d + 2.5) * d - 4) * d + 2;
                    return d < 1 ? near : d < 2 ? far : 0.0;
                }};
    }
    if (interpolation == "lanczos") {
        return {3, [](double d) { return d < 3 ? sinc(d) * sinc(d / 3) : 0.0; }};
    }
    if (interpolation == "hamming") {
        return {1, [](double d) { return d < 1 ? sinc(d) * (0.54 + 0.46 * std::cos(pi * d)) : 0.0; }};
    }
    if (interpolation == "box") {
        return {0.5, [](double d) { return d <= 0.5 ? 1.0 : 0.0; }};
    }
    return {1, [](double d) { return std::max(1 - d, 0.0); }};
}

/// What makes one output of a resized axis: inputs from `first` on, by weights that sum to 1.
struct Filter {
    std::size_t first = 0;
    std::vector<float> weights;
};

/// Resizes an axis of `source` samples to axis.resized, and keeps those of the cut, by a filter as wide as the shrink
/// factor, never narrower than for equal sizes.
inline std::vector<Filter> filters(const Axis &axis, std::size_t source, const Kernel &kernel) {
    const auto last = static_cast<std::int64_t>(source) - 1;
    const double factor = static_cast<double>(source) / axis.resized;
    const double stretch = std::max(factor, 1.0), reach = kernel.reach * stretch;
    std::vector<Filter> result(static_cast<std::size_t>(axis.size));
    double middle = axis.start + 0.5;
    for (Filter &filter : result) {
        const double centre = middle * factor - 0.5;
        const auto begin = static_cast<std::int64_t>(std::floor(centre - reach)) + 1;
        const auto end = begin + static_cast<std::int64_t>(std::ceil(2 * reach)) - 1;
        filter.first = static_cast<std::size_t>(std::clamp<std::int64_t>(begin, 0, last));
        std::vector<double> exact;
        for (std::int64_t tap = std::max<std::int64_t>(begin, 0); tap <= std::min(end, last); ++tap) {
            exact.push_back(kernel.weight(std::abs(static_cast<double>(tap) - centre) / stretch));
        }
        const double sum = std::accumulate(exact.begin(), exact.end(), 0.0);
        for (const double weight : exact) {
            filter.weights.push_back(static_cast<float>(weight / sum));
        }
        middle += 1;
    }
    return result;
}

/// Values (H, W, 3) under way.
struct Pixels {
    Size size;
    std::vector<float> values;
};

template <typename Value>
Pixels resized_rows(const Value *from, Size size, const Axis &axis, const Kernel &kernel) {
    const std::vector<Filter> rows = filters(axis, size.height, kernel);
    const std::size_t length = size.width * 3;
    Pixels result{{rows.size(), size.width}, std::vector<float>(rows.size() * length)};
    for (std::size_t i = 0; i < rows.size(); ++i) {
        for (std::size_t t = 0; t < rows[i].weights.size(); ++t) {
            const Value *row = from + (rows[i].first + t) * length;
            for (std::size_t k = 0; k < length; ++k) {
                result.values[i * length + k] += static_cast<float>(row[k]) * rows[i].weights[t];
            }
        }
    }
    return result;
}

template <typename Value>
Pixels resized_columns(const Value *from, Size size, const Axis &axis, const Kernel &kernel) {
    const std::vector<Filter> columns = filters(axis, size.width, kernel);
    Pixels result{{size.height, columns.size()}, std::vector<float>(size.height * columns.size() * 3)};
    float *to = result.values.data();
    for (std::size_t y = 0; y < size.height; ++y, from += size.width * 3) {
        for (const Filter &column : columns) {
            for (std::size_t t = 0; t < column.weights.size(); ++t) {
                for (std::size_t c = 0; c < 3; ++c) {
                    to[c] += static_cast<float>(from[(column.first + t) * 3 + c]) * column.weights[t];
                }
            }
            to += 3;
        }
    }
    return result;
}

} // namespace detail
} // namespace fusioncam

#endif
