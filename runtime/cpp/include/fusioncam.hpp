// fusioncam in C++17: why an image classifier sees a class in a picture, as a map over its pixels.
//
//     fusioncam::Explainer explainer("model.fcam");  // or the graph itself, fusioncam.onnx
//     fusioncam::Photo photo = fusioncam::read_image("photo.jpg");
//     fusioncam::Explanation explanation = explainer.explain(photo);
//     fusioncam::write_image("overlay.png", fusioncam::overlay(photo, explanation.on_photo("fusion_cam")));
//
// Header-only; needs onnxruntime's C++ API. Pictures are read and written by OpenCV where FUSIONCAM_WITH_OPENCV is
// defined (the CMake target fusioncam::opencv does so); without, only PPM is. Pixels and preprocessed inputs need
// neither.
//
// Every failure throws a `fusioncam::Error` of one line: what is wrong, what to do.
#ifndef FUSIONCAM_HPP
#define FUSIONCAM_HPP

#include "fusioncam/detections.hpp"
#include "fusioncam/detector.hpp"
#include "fusioncam/embedder.hpp"
#include "fusioncam/error.hpp"
#include "fusioncam/explainer.hpp"
#include "fusioncam/geometry.hpp"
#include "fusioncam/images.hpp"
#include "fusioncam/manifest.hpp"
#include "fusioncam/mask.hpp"
#include "fusioncam/npy.hpp"
#include "fusioncam/overlay.hpp"
#include "fusioncam/picture.hpp"
#include "fusioncam/target.hpp"

#endif
