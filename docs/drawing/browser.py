"""A picture of the page, taken in a browser that has no window. Needs playwright and Chromium."""

import shutil
import subprocess
import sys

import cv2
import numpy as np

from fusioncam.kernels.arrays import UInt8Array

WIDTH, HEIGHT = 1280, 800  # room for a photo and three maps side by side


def page(task: str, said: str) -> UInt8Array:
    """The page of `fusioncam demo --web`, with the first of its samples explained.

    Args:
        task: What the built-in model does.
        said: Words that the page shows once the sample is explained.
    """
    from playwright.sync_api import sync_playwright

    line = [sys.executable, "-m", "fusioncam", "demo", "--task", task, "--web", "--no-open", "--port", "0"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as demo, sync_playwright() as play:
        try:
            assert demo.stdout is not None
            address = next(word for word in demo.stdout.readline().split() if word.startswith("http"))
            browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            tab = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
            tab.goto(address)
            tab.get_by_text(said).first.wait_for()
            tab.wait_for_load_state("networkidle")
            taken = np.frombuffer(tab.screenshot(full_page=True), np.uint8)
            browser.close()
        finally:
            demo.terminate()
    return np.asarray(cv2.imdecode(taken, cv2.IMREAD_COLOR)[..., ::-1])
