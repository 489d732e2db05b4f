"""How well text on a page in a browser stands out from what it stands on."""

import re

import numpy as np


def colours(browser, selector: str) -> list[tuple[float, ...]]:
    """Colours of an element's text and of what it stands on, in [0, 1]."""
    script = """
        let element = document.querySelector(arguments[0]);
        const text = getComputedStyle(element).color;
        const ground = () => getComputedStyle(element).backgroundColor;
        while (ground() === "rgba(0, 0, 0, 0)") element = element.parentElement;
        return [text, ground()];"""
    found = browser.execute_script(script, selector)
    return [tuple(int(v) / 255 for v in re.findall(r"\d+", colour)[:3]) for colour in found]


def luminance(colour: tuple[float, ...]) -> float:
    """Relative luminance as in WCAG 2."""
    linear = [v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in colour]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def contrast(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)
