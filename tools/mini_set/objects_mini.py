"""The ten objects of the mini set: groceries, tableware, toys and tools, two of them solids of revolution."""

import numpy as np

from picopose.rendering.procedural import prints, solids, textures
from picopose.rendering.procedural.painting import paint
from tools.mini_set.object_parts import BLACK, STEEL, WHITE, Model, handle, rod, turned, vessel


def mug() -> Model:
    """White china with a printed sail boat and a handle."""
    rng = np.random.default_rng(11)
    outer = [(0.028, 0), (0.034, 0.004), (0.0375, 0.02), (0.0385, 0.05), (0.0395, 0.088), (0.0405, 0.095)]
    image = textures.plain(WHITE, 300, 640)
    textures.rectangle(image, (0, 0.1, 1, 0.16), (32, 80, 140))
    textures.rectangle(image, (0, 0.86, 1, 0.94), (32, 80, 140))
    for x in (0.25, 0.6):
        textures.polygon(image, np.array([(x, 0.22), (x, 0.62), (x + 0.11, 0.62)]), (205, 60, 45))
        textures.polygon(
            image, np.array([(x - 0.01, 0.3), (x - 0.01, 0.62), (x - 0.09, 0.62)]), (240, 170, 40)
        )
        hull = np.array([(x - 0.1, 0.66), (x + 0.12, 0.66), (x + 0.08, 0.78), (x - 0.07, 0.78)])
        textures.polygon(image, hull, (60, 45, 40))
    textures.write(image, "Ahoy", (0.4, 0.3, 0.52, 0.5), (32, 80, 140), weight=2)
    prints.logo(rng, image, (0.8, 0.25, 0.94, 0.6))
    body = vessel(outer, 0.004)
    grip = handle(
        [(0.036, 0, 0.02), (0.062, 0, 0.026), (0.068, 0, 0.055), (0.058, 0, 0.078), (0.037, 0, 0.08)],
        0.014,
        0.008,
    )
    return Model(paint([(body, [image, WHITE, WHITE, (225, 222, 214)]), (grip, [(32, 80, 140)])]))


def cereal_box() -> Model:
    """A carton with a printed front, back and sides."""
    rng = np.random.default_rng(12)
    front = textures.blend(np.linspace(0, 1, 420)[:, None] * np.ones(300), (250, 205, 60), (235, 120, 30))
    textures.ellipse(front, (0.12, 0.5, 0.88, 0.96), (245, 245, 250))
    textures.ellipse(front, (0.18, 0.54, 0.82, 0.9), (250, 225, 170))
    for _ in range(70):
        x, y = rng.uniform(0.24, 0.74), rng.uniform(0.6, 0.82)
        size = rng.uniform(0.03, 0.05)
        colour = np.array((190, 120, 50)) * rng.uniform(0.7, 1.2)
        textures.ellipse(front, (x, y, x + 1.4 * size, y + size), colour.clip(0, 255))
    textures.rectangle(front, (0, 0.08, 1, 0.3), (190, 30, 40))
    textures.write(front, "CRUNCHOS", (0.06, 0.11, 0.94, 0.27), (255, 240, 200), weight=3)
    textures.write(front, "honey & oats", (0.2, 0.34, 0.8, 0.42), (110, 50, 20), weight=1)
    textures.polygon(front, textures.star((0.82, 0.5), (0.14, 0.1), 9, 0.75, 0.2), (40, 130, 70))
    textures.write(front, "NEW", (0.74, 0.465, 0.9, 0.535), WHITE, weight=2)
    back = textures.plain((245, 215, 120), 420, 300)
    prints.paste(back, prints.picture(np.random.default_rng(3), 160, 260), (0.07, 0.06, 0.93, 0.42))
    textures.fine_print(rng, back, (0.08, 0.47, 0.92, 0.7), (110, 50, 20), 7)
    textures.barcode(rng, back, (0.55, 0.78, 0.92, 0.94))
    side = textures.plain((190, 30, 40), 420, 100)
    textures.fine_print(rng, side, (0.12, 0.3, 0.88, 0.8), (255, 240, 200), 12)
    other = textures.plain((235, 120, 30), 420, 100)
    for k in range(5):
        textures.ellipse(other, (0.2, 0.1 + 0.16 * k, 0.8, 0.2 + 0.16 * k), (250, 205, 60))
    top = textures.plain((190, 30, 40), 100, 300)
    textures.write(top, "CRUNCHOS", (0.1, 0.25, 0.6, 0.75), (255, 240, 200), weight=2)
    faces = [side, other, back, front, top, (200, 170, 120)]
    return Model(paint([(solids.box((0.135, 0.048, 0.19), 0.001), faces)]))


def soup_can() -> Model:
    """A tin can with a paper label."""
    rng = np.random.default_rng(13)
    label = textures.plain((238, 232, 214), 260, 560)
    textures.rectangle(label, (0, 0, 1, 0.42), (40, 110, 60))
    textures.rectangle(label, (0, 0.42, 1, 0.47), (215, 175, 70))
    for left, word in ((0.04, "POMODORO"), (0.54, "tomato soup")):
        textures.write(label, word, (left, 0.1, left + 0.38, 0.33), (240, 235, 215), weight=2)
    for x, y, r in ((0.12, 0.72, 0.07), (0.22, 0.76, 0.06), (0.3, 0.7, 0.065)):
        textures.ellipse(label, (x - r, y - 2 * r, x + r, y + 2 * r), (200, 40, 30))
        textures.ellipse(label, (x - 0.5 * r, y - 1.4 * r, x, y - 0.6 * r), (230, 95, 80))
        points = textures.star((x, y - 1.9 * r), (0.6 * r, 1.0 * r), 5, 0.4, 0.3)
        textures.polygon(label, points, (50, 120, 50))
    textures.fine_print(rng, label, (0.55, 0.55, 0.78, 0.9), (60, 60, 60), 6)
    textures.barcode(rng, label, (0.82, 0.55, 0.96, 0.9))
    profile = [(0.033, 0), (0.034, 0.002), (0.033, 0.005), (0.033, 0.095), (0.034, 0.098), (0.033, 0.1)]
    body = solids.revolve(np.array(profile), surfaces=[1, 1, 0, 1, 1])
    lid = textures.plain((185, 187, 190), 120, 120)
    for radius, grey in ((0.45, 150), (0.43, 195), (0.3, 160), (0.285, 190)):
        textures.ellipse(
            lid, (0.5 - radius, 0.5 - radius, 0.5 + radius, 0.5 + radius), (grey, grey, grey + 3)
        )
    ring = solids.sweep(
        np.pad(solids.circle(0.008, 16), ((0, 0), (0, 1))), solids.circle(0.0012, 8), closed=True
    )
    return Model(
        paint([(body, [label, STEEL, STEEL, lid]), (ring.moved((0.012, 0, 0.1012)), [(205, 205, 208)])])
    )


def bowl() -> Model:
    """Glazed stoneware in rings of colour: a solid of revolution."""
    radii = np.array([0.03, 0.034, 0.05, 0.062, 0.069, 0.073])
    heights = np.array([0, 0.004, 0.014, 0.03, 0.048, 0.058])
    outer = np.stack([radii, heights], axis=1)
    inner = np.stack([radii - 0.004, heights.clip(0.005)], axis=1)[::-1]
    inner = np.concatenate([inner[:-2], [(0.012, 0.006)]])
    profile = np.concatenate([[(0, 0)], outer, inner, [(0, 0.006)]])
    surfaces = [0, 1, 1, 2, 2, 3, 3, *[4] * (len(profile) - 9), 5]
    shape = solids.revolve(profile, outline=solids.circle(1.0, 64), surfaces=surfaces)
    paints = [(120, 85, 60), (150, 105, 70), (45, 110, 120), (225, 210, 180), (70, 150, 155), (240, 225, 190)]
    return Model(paint([(shape, paints)]), axes=((0, 0, 1),))


def shampoo_bottle() -> Model:
    """An oval bottle with a front and a back print and a flip cap."""
    rng = np.random.default_rng(15)
    image = textures.plain((70, 165, 170), 360, 480)
    textures.rectangle(image, (0, 0.78, 1, 0.86), (245, 245, 240))
    # The seam lies at the right side (+x): a quarter of the way round is the back, three quarters the front.
    textures.ellipse(image, (0.6, 0.14, 0.9, 0.7), (245, 245, 240))
    textures.write(image, "AQUA", (0.645, 0.26, 0.855, 0.4), (20, 90, 130), weight=3)
    textures.write(image, "herbal", (0.67, 0.44, 0.83, 0.52), (90, 150, 70), weight=1)
    for x, y in ((0.7, 0.58), (0.75, 0.56), (0.8, 0.58)):
        textures.polygon(image, textures.star((x, y), (0.02, 0.05), 2, 0.3, 0.6), (90, 150, 70))
    textures.rectangle(image, (0.14, 0.15, 0.37, 0.7), (235, 240, 235))
    textures.fine_print(rng, image, (0.16, 0.2, 0.35, 0.5), (20, 90, 130), 7)
    textures.barcode(rng, image, (0.18, 0.54, 0.33, 0.67))
    profile = [(0.9, 0), (1, 0.006), (1.03, 0.05), (1, 0.1), (0.92, 0.125), (0.6, 0.138)]
    body = solids.revolve(np.array(profile), outline=solids.superellipse(0.066, 0.04, 2.4))
    cap = solids.revolve(
        np.array([(1, 0), (1, 0.022), (0.9, 0.025)]), outline=solids.superellipse(0.04, 0.03, 3)
    )
    spout = rod(0.006, 0.008, 20)
    cream = (240, 238, 228)
    parts = [(body, [image, (60, 140, 145), cream]), (cap.moved((0, 0, 0.138)), [cream])]
    return Model(paint([*parts, (spout.moved((0.009, -0.004, 0.163)), [(20, 90, 130)])]))


def building_brick() -> Model:
    """A 2 x 4 toy brick of one colour: symmetric by half a turn about the vertical."""
    red = (196, 34, 38)
    parts = [(solids.box((0.096, 0.048, 0.036), 0.0008), [red])]
    stud = solids.revolve(
        np.array([(0.0075, 0), (0.0075, 0.0085), (0.0068, 0.0093)]), outline=solids.circle(1, 24)
    )
    for x in (-0.036, -0.012, 0.012, 0.036):
        for y in (-0.012, 0.012):
            parts.append((stud.moved((x, y, 0.0175)), [red]))
    return Model(paint(parts), turns=((0, 0, 180),))


def hammer() -> Model:
    """A claw hammer with a two-coloured handle, without texture."""
    grip = turned([(0.011, 0), (0.0145, 0.008), (0.0125, 0.05), (0.0115, 0.075)]).stretched(y=0.8)
    shaft = turned([(0.009, 0.07), (0.0085, 0.12), (0.0085, 0.185)]).stretched(y=0.8)
    neck = solids.box((0.05, 0.018, 0.02), 0.003).moved((-0.002, 0, 0.19))
    face = rod(0.0135, 0.016).moved(turn=(0, 90, 0)).moved((0.032, 0, 0.19))
    collar = rod(0.0095, 0.02).moved(turn=(0, 90, 0)).moved((0.018, 0, 0.19))
    parts = [(grip, [(35, 60, 120)]), (shaft, [(196, 150, 96)]), (neck, [STEEL]), (collar, [STEEL])]
    parts.append((face, [(120, 123, 128), (120, 123, 128), (185, 187, 190)]))
    for side in (-1, 1):
        knots = [(-0.02, 0.004 * side, 0.19), (-0.038, 0.006 * side, 0.189), (-0.056, 0.009 * side, 0.18)]
        claw = handle([*knots, (-0.066, 0.011 * side, 0.166)], 0.008, 0.01)
        parts.append((claw, [STEEL]))
    return Model(paint(parts))


def toy_car() -> Model:
    """A pick-up truck in plain colours."""
    yellow, blue = (236, 178, 32), (40, 76, 150)
    body = solids.box((0.12, 0.052, 0.022), 0.004).moved((0, 0, 0.024))
    hood = solids.box((0.036, 0.048, 0.016), 0.004).moved((0.041, 0, 0.04))
    outline = np.array([(-0.024, 0), (0.022, 0), (0.012, 0.032), (-0.02, 0.032)])
    cabin = solids.extrude(outline, 0.046, 0.003).moved(turn=(90, 0, 0)).moved((0, 0.023, 0.032))
    parts = [(body, [yellow]), (hood, [yellow]), (cabin, [blue])]
    for side in (-1, 1):
        rail = solids.box((0.036, 0.005, 0.016), 0.001).moved((-0.042, 0.022 * side, 0.041))
        pane = (
            solids.extrude(0.7 * outline, 0.002)
            .moved(turn=(90, 0, 0))
            .moved((0, 0.0235 * side + 0.001, 0.037))
        )
        parts += [(rail, [(180, 60, 40)]), (pane, [(190, 215, 225)])]
        lamp = rod(0.005, 0.004, 16).moved(turn=(0, 90, 0)).moved((0.058, 0.017 * side, 0.027))
        parts.append((lamp, [WHITE]))
        for x in (-0.036, 0.038):
            wheel = rod(0.0145, 0.012, 28).moved(turn=(90, 0, 0)).moved((x, 0.026 * side + 0.006, 0.0145))
            hub = rod(0.007, 0.0135, 20).moved(turn=(90, 0, 0)).moved((x, 0.0263 * side + 0.00675, 0.0145))
            parts += [(wheel, [BLACK]), (hub, [(205, 205, 200)])]
    tail = solids.box((0.004, 0.044, 0.016), 0.001).moved((-0.058, 0, 0.041))
    exhaust = rod(0.0035, 0.04, 16).moved((-0.022, 0.018, 0.03))
    return Model(paint([*parts, (tail, [(180, 60, 40)]), (exhaust, [STEEL])]))


def milk_carton() -> Model:
    """A gable-top carton with prints on four sides and a screw cap on the roof."""
    rng = np.random.default_rng(19)
    side, height, ridge = 0.035, 0.13, 0.158
    prints_ = []
    for k in range(4):
        image = textures.plain((248, 248, 245), 380, 210)
        textures.rectangle(image, (0, 0.62, 1, 1), (70, 150, 60))
        textures.ellipse(image, (-0.3 + 0.2 * k, 0.52, 0.9 + 0.2 * k, 0.9), (110, 180, 80))
        prints_.append(image)
    textures.write(prints_[0], "MILK", (0.1, 0.12, 0.9, 0.34), (20, 60, 140), weight=4)
    textures.write(prints_[2], "MOO!", (0.15, 0.2, 0.85, 0.42), (200, 50, 60), weight=3)
    for x, y, r in ((0.3, 0.7, 0.16), (0.62, 0.66, 0.1), (0.5, 0.85, 0.12)):
        textures.ellipse(prints_[0], (x - r, y - 0.55 * r, x + r, y + 0.55 * r), BLACK)
    textures.fine_print(rng, prints_[1], (0.1, 0.1, 0.9, 0.45), (40, 60, 90), 9)
    textures.barcode(rng, prints_[1], (0.2, 0.72, 0.8, 0.92))
    prints.paste(prints_[3], prints.picture(np.random.default_rng(8), 150, 150), (0.12, 0.1, 0.88, 0.5))
    body = solids.box((2 * side, 2 * side, height)).moved((0, 0, height / 2))
    faces = [prints_[1], prints_[3], prints_[2], prints_[0], WHITE, WHITE]
    slope = ridge - height
    gable = np.array([(0.0003 - side, 0), (side - 0.0003, 0), (0.002, slope), (-0.002, slope)])
    roof = (
        solids.extrude(gable, 2 * side - 0.0006)
        .moved(turn=(90, 0, 90))
        .moved((0.0003 - side, 0, height - 0.0002))
    )
    fin = solids.box((2 * side - 0.0006, 0.003, 0.018)).moved((0, 0, ridge + 0.006))
    cap = rod(0.012, 0.01, 28).moved(turn=(38, 0, 0)).moved((0, -0.016, height + 0.012))
    blue = (30, 80, 170)
    return Model(paint([(body, faces), (roof, [(232, 238, 246)]), (fin, [blue]), (cap, [(210, 45, 50)])]))


def tape_roll() -> Model:
    """A roll of parcel tape: a solid of revolution, also symmetric upside down."""
    outline, height = solids.circle(1.0, 64), 0.048
    core = solids.frame(0.041 * outline, 0.038 * outline, height).moved((0, 0, -height / 2))
    tape = solids.frame(0.056 * outline, 0.0405 * outline, height - 0.004).moved((0, 0, 0.002 - height / 2))
    paper, edge, band = (190, 160, 118), (172, 124, 66), (205, 160, 90)
    mesh = paint([(core, [paper]), (tape, [band, edge, edge, edge])])
    return Model(mesh, turns=((180, 0, 0),), axes=((0, 0, 1),))


ALL = (
    mug,
    cereal_box,
    soup_can,
    bowl,
    shampoo_bottle,
    building_brick,
    hammer,
    toy_car,
    milk_carton,
    tape_roll,
)
