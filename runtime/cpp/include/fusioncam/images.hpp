// read_image, decode_image and write_image: of OpenCV where FUSIONCAM_WITH_OPENCV is defined, otherwise of PPM alone.
#ifndef FUSIONCAM_IMAGES_HPP
#define FUSIONCAM_IMAGES_HPP

#include "ppm.hpp"

#ifdef FUSIONCAM_WITH_OPENCV
#include "opencv.hpp"
#else
namespace fusioncam {
using ppm::decode_image;
using ppm::read_image;
using ppm::write_image;
} // namespace fusioncam
#endif

#endif
