// Where a photo lands in the model's input, and the way back: the arithmetic of Python's runtime/geometry.py.
#ifndef FUSIONCAM_GEOMETRY_HPP
#define FUSIONCAM_GEOMETRY_HPP

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include "error.hpp"
#include "manifest.hpp"
#include "picture.hpp"
#include "shrink.hpp"

namespace fusioncam {
namespace detail {

/// Bilinear interpolation along an axis, one entry per output: (1 - weight) in[low] + weight in[high].
struct Tap {
    std::size_t low, high;
    float weight;
};

/// One axis of a photo: its `whole` pixels are resized to `resized`, of which `size` are kept, from `start` on.
struct Axis {
    std::int64_t whole, resized, start, size;

    /// First of the photo's pixels whose centres the cut kept, and the one after the last; at least one pixel.
    std::pair<std::size_t, std::size_t> seen() const {
        const auto pixel = [this](std::int64_t edge) {
            const double place = static_cast<double>(edge) * static_cast<double>(whole);
            return static_cast<std::int64_t>(std::ceil(place / static_cast<double>(resized) - 0.5));
        };
        const std::int64_t first = std::min(pixel(start), whole - 1);
        const std::int64_t end = std::min(std::max(pixel(start + size), first + 1), whole);
        return {static_cast<std::size_t>(first), static_cast<std::size_t>(end)};
    }

    /// Where the centres of the photo's pixels from `first` to `end` - 1 landed between those of the model's input.
    std::vector<Tap> taps(std::size_t first, std::size_t end) const {
        std::vector<Tap> result;
        result.reserve(end - first);
        for (std::size_t i = first; i < end; ++i) {
            const double centre = static_cast<double>(i) + 0.5;
            const double place = centre * static_cast<double>(resized) / static_cast<double>(whole) - 0.5;
            const double at = std::clamp(place - static_cast<double>(start), 0.0, static_cast<double>(size - 1));
            const auto low = static_cast<std::size_t>(at);
            const std::size_t high = std::min(low + 1, static_cast<std::size_t>(size - 1));
            result.push_back({low, high, static_cast<float>(at - static_cast<double>(low))});
        }
        return result;
    }
};

struct Axes {
    Axis rows, columns;
};

/// Rows and columns of a photo on their way to the model, rounded as torchvision rounds them.
inline Axes axes(Size photo, const Preprocessing &p) {
    const auto whole_rows = static_cast<std::int64_t>(photo.height), rows = static_cast<std::int64_t>(p.size.height);
    const auto whole_columns = static_cast<std::int64_t>(photo.width),
               columns = static_cast<std::int64_t>(p.size.width);
    if (p.resize == "squash") {
        return {{whole_rows, rows, 0, rows}, {whole_columns, columns, 0, columns}};
    }
    const auto ratio = [](std::int64_t a, std::int64_t b) { return static_cast<double>(a) / static_cast<double>(b); };
    const double scale = std::max(ratio(rows, whole_rows), ratio(columns, whole_columns)) / p.crop_fraction;
    const auto axis = [scale](std::int64_t whole, std::int64_t size) {
        // The small term keeps 255.99999 from becoming 255; nearbyint takes halves to even, as Python's round does.
        const double resized =
            std::max(std::floor(static_cast<double>(whole) * scale + 1e-6), static_cast<double>(size));
        const double start = std::nearbyint((resized - static_cast<double>(size)) / 2);
        return Axis{whole, static_cast<std::int64_t>(resized), static_cast<std::int64_t>(start), size};
    };
    return {axis(whole_rows, rows), axis(whole_columns, columns)};
}

/// What makes one output of a resized axis: inputs from `first` on, by weights that sum to 1.
struct Filter {
    std::size_t first = 0;
    std::vector<float> weights;
};

/// Resizes an axis of `source` samples to axis.resized, and keeps those of the cut: the filter of Pillow and
/// torchvision, a triangle as wide as the shrink factor, never narrower than one sample.
inline std::vector<Filter> filters(const Axis &axis, std::size_t source) {
    const auto last = static_cast<std::int64_t>(source) - 1;
    const double factor = static_cast<double>(source) / static_cast<double>(axis.resized);
    const double reach = std::max(factor, 1.0);
    std::vector<Filter> result(static_cast<std::size_t>(axis.size));
    double middle = static_cast<double>(axis.start) + 0.5;
    for (Filter &filter : result) {
        const double centre = middle * factor - 0.5;
        const auto begin = static_cast<std::int64_t>(std::floor(centre - reach)) + 1;
        const auto end = begin + static_cast<std::int64_t>(std::ceil(2 * reach)) - 1;
        filter.first = static_cast<std::size_t>(std::clamp<std::int64_t>(begin, 0, last));
        std::vector<double> exact;
        for (std::int64_t tap = std::max<std::int64_t>(begin, 0); tap <= std::min(end, last); ++tap) {
            exact.push_back(std::max(1 - std::abs(static_cast<double>(tap) - centre) / reach, 0.0));
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

template <typename Value> Pixels resized_rows(const Value *from, Size size, const Axis &axis) {
    const std::vector<Filter> rows = filters(axis, size.height);
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

template <typename Value> Pixels resized_columns(const Value *from, Size size, const Axis &axis) {
    const std::vector<Filter> columns = filters(axis, size.width);
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

/// What the model sees of a photo, pixel for pixel: its maps lie on this picture.
/// `squash` resizes to the model's size and ignores the aspect ratio; `crop` resizes the photo, aspect ratio kept,
/// until it just covers size / crop_fraction, then cuts the size out of the centre. Of the model's size already, a
/// photo stays as it is.
inline Photo display_image(const PhotoView &photo, const Preprocessing &preprocessing) {
    const auto [rows, columns] = detail::axes(photo.size, preprocessing);
    // Averaging whole blocks first, down to 4 to 8 times the size wanted, bounds time and memory for large photos.
    const auto shrunk = [](const detail::Axis &axis) {
        return static_cast<std::size_t>(axis.whole / std::max<std::int64_t>(axis.whole / 4 / axis.resized, 1));
    };
    const Size smaller{shrunk(rows), shrunk(columns)};
    const Photo averaged = smaller == photo.size ? Photo{} : detail::shrink_area(photo, smaller);
    const std::uint8_t *from = smaller == photo.size ? photo.rgb : averaged.rgb.data();
    // The axis that loses most goes first, or a sliver of a photo would be blown up before it is cut.
    const auto left = [](const detail::Axis &axis, std::size_t n) {
        return static_cast<double>(axis.size) / static_cast<double>(n);
    };
    const bool rows_first = left(rows, smaller.height) <= left(columns, smaller.width);
    detail::Pixels seen =
        rows_first ? detail::resized_rows(from, smaller, rows) : detail::resized_columns(from, smaller, columns);
    seen = rows_first ? detail::resized_columns(seen.values.data(), seen.size, columns)
                      : detail::resized_rows(seen.values.data(), seen.size, rows);
    Photo result{seen.size, std::vector<std::uint8_t>(seen.values.size())};
    std::transform(seen.values.begin(), seen.values.end(), result.rgb.begin(), detail::to_byte);
    return result;
}

/// A map of the model's input at the photo's own resolution: resizing and cutting undone, bilinear between pixel
/// centres. What the model never saw of the photo is 0. Throws UsageError where the map is not of the model's size, or
/// the photo has no pixels.
inline Saliency on_photo(const Saliency &saliency, Size photo, const Preprocessing &preprocessing) {
    const Size size = preprocessing.size;
    if (saliency.size != size || saliency.values.size() != size.height * size.width || !photo.height || !photo.width) {
        throw UsageError("a map of " + saliency.size.text() + " cannot be put on a photo of " + photo.text() +
                         ": it must be of the model's input, " + size.text() + ", and the photo not empty");
    }
    Saliency whole{photo, std::vector<float>(photo.height * photo.width, 0.0F)};
    const auto [rows, columns] = detail::axes(photo, preprocessing);
    const auto [top, bottom] = rows.seen();
    const auto [left, right] = columns.seen();
    const auto across = columns.taps(left, right), down = rows.taps(top, bottom);
    for (std::size_t i = 0; i < down.size(); ++i) {
        const float *low = &saliency.values[down[i].low * size.width];
        const float *high = &saliency.values[down[i].high * size.width];
        float *to = &whole.values[(top + i) * photo.width + left];
        for (std::size_t j = 0; j < across.size(); ++j) {
            const detail::Tap &tap = across[j];
            const float above = low[tap.low] * (1 - tap.weight) + low[tap.high] * tap.weight;
            const float below = high[tap.low] * (1 - tap.weight) + high[tap.high] * tap.weight;
            to[j] = above * (1 - down[i].weight) + below * down[i].weight;
        }
    }
    return whole;
}

/// A photo as the model takes it: resized, then normalised; (3, H, W) float32, channels in the model's order.
inline std::vector<float> preprocess(const PhotoView &photo, const Preprocessing &p) {
    const Photo shown = display_image(photo, p);
    const std::size_t pixels = p.size.height * p.size.width;
    std::vector<float> x(3 * pixels);
    const auto rescale = static_cast<float>(p.rescale);
    for (std::size_t c = 0; c < 3; ++c) {
        const std::size_t channel = p.channel_order == "bgr" ? 2 - c : c;
        const auto mean = static_cast<float>(p.mean[c]), std = static_cast<float>(p.std[c]);
        for (std::size_t i = 0; i < pixels; ++i) {
            x[c * pixels + i] = (static_cast<float>(shown.rgb[3 * i + channel]) * rescale - mean) / std;
        }
    }
    return x;
}

} // namespace fusioncam

#endif
