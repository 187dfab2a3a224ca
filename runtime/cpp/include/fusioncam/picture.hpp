// Pictures, model inputs and maps: plain arrays in rows, top row first.
#ifndef FUSIONCAM_PICTURE_HPP
#define FUSIONCAM_PICTURE_HPP

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "error.hpp"

namespace fusioncam {

/// Pictures of more pixels are refused: a small file can declare a huge one.
inline constexpr std::uint64_t MAX_PIXELS = 100'000'000;

/// Height and width in pixels.
struct Size {
    std::size_t height = 0, width = 0;

    friend bool operator==(Size a, Size b) { return a.height == b.height && a.width == b.width; }
    friend bool operator!=(Size a, Size b) { return !(a == b); }
    std::string text() const { return detail::shape_text<std::size_t>({height, width}); }
};

/// A box: x1, y1, x2, y2 in pixels.
using Corners = std::array<double, 4>;

/// A picture (H, W, 3), 8 bits, RGB, three bytes a pixel without gaps between rows.
struct Photo {
    Size size;
    std::vector<std::uint8_t> rgb;
};

/// Somebody else's pixels, laid out like a Photo's; they must stay where they are while the view is used.
struct PhotoView {
    const std::uint8_t *rgb;
    Size size;

    PhotoView(const std::uint8_t *rgb_, std::size_t height, std::size_t width) : rgb(rgb_), size{height, width} {}

    /// Throws ImageError where the photo holds another number of bytes than its size says.
    PhotoView(const Photo &photo) : rgb(photo.rgb.data()), size(photo.size) {
        const std::size_t pixels = photo.rgb.size() / 3;
        const bool none = size.height == 0 || size.width == 0;
        if (photo.rgb.size() % 3 != 0 ||
            (none ? pixels != 0 : pixels % size.width || pixels / size.width != size.height)) {
            throw ImageError("a photo of " + size.text() + " pixels cannot have " +
                             detail::thousands(photo.rgb.size()) + " bytes: give it 3 for each pixel");
        }
    }
};

/// Somebody else's preprocessed input, float32 of shape (C, H, W) or (1, C, H, W), without gaps.
struct InputView {
    const float *values;
    std::vector<std::int64_t> shape;
};

/// A map (H, W) in [0, 1], float32: how much each pixel speaks for the class.
struct Saliency {
    Size size;
    std::vector<float> values;

    float at(std::size_t row, std::size_t column) const { return values.at(row * size.width + column); }
};

} // namespace fusioncam

#endif
