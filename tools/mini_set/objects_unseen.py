"""The ten objects of the second set, of other kinds and prints than the mini set's."""

import numpy as np

from picopose.rendering.procedural import prints, solids, textures
from picopose.rendering.procedural.painting import paint
from tools.mini_set.object_parts import BLACK, STEEL, WHITE, Model, handle, rod, turned


def teapot() -> Model:
    """Cream china with a flower print, spout, handle and lid."""
    rng = np.random.default_rng(31)
    image = textures.plain((244, 236, 214), 256, 640)
    for _ in range(16):
        x, y, r = rng.uniform(0.03, 0.97), rng.uniform(0.25, 0.85), rng.uniform(0.02, 0.045)
        for spread, colour in (
            (1.0, (90, 130, 80)),
            (0.8, textures.random_colour(rng)),
            (0.3, (250, 220, 90)),
        ):
            points = textures.star((x, y), (spread * r, 2.5 * spread * r), 5, 0.55, rng.uniform(0, 6))
            textures.polygon(image, points, colour)
    profile = np.array([(0.036, 0), (0.058, 0.018), (0.064, 0.045), (0.05, 0.075), (0.028, 0.088)])
    body = solids.revolve(solids.smooth(profile, 5))
    lid = turned(
        [(0.03, 0.086), (0.024, 0.094), (0.008, 0.098), (0.005, 0.102), (0.009, 0.109), (0.003, 0.115)]
    )
    spout_path = solids.smooth(
        np.array([(0.05, 0, 0.03), (0.085, 0, 0.045), (0.098, 0, 0.08), (0.108, 0, 0.09)]), 6
    )
    spout = solids.sweep(spout_path, solids.circle(0.013, 20), scale=np.linspace(1.2, 0.65, len(spout_path)))
    grip = handle(
        [(-0.052, 0, 0.025), (-0.085, 0, 0.028), (-0.093, 0, 0.055), (-0.08, 0, 0.076), (-0.045, 0, 0.072)],
        0.01,
        0.013,
    )
    green = (70, 115, 80)
    return Model(paint([(body, [image, WHITE, WHITE]), (lid, [green]), (spout, [green]), (grip, [green])]))


def book() -> Model:
    """A hardcover with a printed jacket and a block of pages."""
    rng = np.random.default_rng(32)
    front = prints.picture(np.random.default_rng(2), 420, 290)
    textures.rectangle(front, (0.08, 0.07, 0.92, 0.3), (24, 30, 60))
    textures.write(front, "NORTHERN", (0.14, 0.1, 0.86, 0.18), (235, 220, 170), weight=1)
    textures.write(front, "LIGHTS", (0.2, 0.2, 0.8, 0.28), (235, 220, 170), weight=3)
    textures.write(front, "M. Kaldor", (0.28, 0.88, 0.72, 0.94), (250, 250, 250), weight=2)
    back = textures.plain((24, 30, 60), 420, 290)
    textures.fine_print(rng, back, (0.12, 0.12, 0.88, 0.6), (220, 215, 200), 12)
    textures.barcode(rng, back, (0.56, 0.78, 0.9, 0.93))
    spine = textures.plain((24, 30, 60), 420, 60)
    for y in (0.06, 0.1, 0.88, 0.92):
        textures.rectangle(spine, (0, y, 1, y + 0.015), (200, 165, 80))
    title = textures.plain((24, 30, 60), 40, 240)
    textures.write(title, "NORTHERN LIGHTS", (0.03, 0.15, 0.97, 0.85), (235, 220, 170), weight=2)
    prints.paste(spine, np.rot90(title, -1), (0.2, 0.16, 0.8, 0.82))
    edge = textures.plain((236, 228, 205), 420, 60)
    edge[:, ::3] = (205, 195, 170)
    pages = solids.box((0.118, 0.171, 0.024)).moved((0.001, 0, 0))
    cover_back = solids.box((0.125, 0.18, 0.003)).moved((0.001, 0, -0.0133))
    cover_front = solids.box((0.125, 0.18, 0.003)).moved((0.001, 0, 0.0133))
    # The spine stands up along y; its print reads along the long side.
    navy = (24, 30, 60)
    back_strip = solids.box((0.004, 0.1796, 0.0292)).moved((-0.0602, 0, 0))
    sheets = [edge, navy, np.rot90(edge).copy(), np.rot90(edge).copy(), WHITE, WHITE]
    strip = [navy, np.rot90(spine).copy(), navy, navy, navy, navy]
    lower = [navy, navy, navy, navy, navy, back[:, ::-1][::-1].copy()]
    return Model(
        paint(
            [
                (pages, sheets),
                (back_strip, strip),
                (cover_back, lower),
                (cover_front, [*[navy] * 4, front, navy]),
            ]
        )
    )


def vase() -> Model:
    """Glazed in bands: a solid of revolution."""
    outer = solids.smooth(
        np.array([(0.03, 0), (0.045, 0.03), (0.05, 0.065), (0.03, 0.115), (0.02, 0.145), (0.03, 0.17)]), 5
    )
    inner = np.array([(0.026, 0.169), (0.0165, 0.145), (0.018, 0.12), (0.0, 0.1)])
    profile = np.concatenate([[(0, 0)], outer, inner])
    n = len(outer) - 1
    bands = [0, *[1] * 7, *[2] * 3, *[3] * 5, *[2] * 3, *[4] * (n - 18), *[5] * 4]
    shape = solids.revolve(profile, outline=solids.circle(1.0, 64), surfaces=bands)
    paints = [(90, 70, 60), (88, 60, 120), (225, 190, 90), (150, 70, 110), (110, 75, 150), (60, 45, 80)]
    return Model(paint([(shape, paints)]), axes=((0, 0, 1),))


def hex_nut() -> Model:
    """A big steel nut: six-fold symmetric about its axis, also upside down."""
    angle = np.arange(48) * (2 * np.pi / 48)
    across = np.cos(np.pi / 6) / np.cos(angle % (np.pi / 3) - np.pi / 6)
    outer = 0.042 * solids.circle(1.0, 48) * across[:, None]
    inner = solids.circle(0.022, 48)
    rings = [(outer * 0.93, -0.018), (outer, -0.015), (outer, 0.015), (outer * 0.93, 0.018)]
    rings += [(inner * 1.1, 0.018), (inner, 0.0155), (inner, -0.0155), (inner * 1.1, -0.018)]
    loops = np.stack([np.concatenate([xy, np.full((48, 1), z)], axis=1) for xy, z in rings])
    shape = solids.loft(loops, surfaces=[0, 0, 0, 1, 2, 2, 2, 1], closed=True)
    around = [(0.0, 0.0, 60.0 * k) for k in range(1, 6)]
    flips = [(180 * np.cos(a), 180 * np.sin(a), 0.0) for a in np.radians(30.0 * np.arange(6))]
    mesh = paint([(shape, [(140, 146, 156), (176, 181, 188), (92, 96, 104)])])
    return Model(mesh, turns=(*around, *flips))


def camera() -> Model:
    """A photo camera with a lens, a flash shoe and a leather skin."""
    rng = np.random.default_rng(35)
    skin = textures.speckle(rng, 140, 280)
    skin = (skin.mean(axis=2, keepdims=True) * np.array([0.3, 0.22, 0.18])).clip(0, 255).astype(np.uint8)
    body = solids.box((0.12, 0.036, 0.052), 0.004).moved((0, 0, 0.03))
    front = skin.copy()
    textures.rectangle(front, (0.04, 0.1, 0.2, 0.22), (230, 230, 230))
    textures.write(front, "ORBIT", (0.05, 0.11, 0.19, 0.21), (20, 20, 20), weight=3)
    screen = skin.copy()
    textures.rectangle(screen, (0.2, 0.12, 0.8, 0.88), (20, 24, 30))
    prints.paste(screen, prints.picture(np.random.default_rng(14), 100, 140), (0.23, 0.16, 0.77, 0.84))
    silver = (198, 200, 204)
    plate = solids.box((0.121, 0.037, 0.016), 0.004).moved((0, 0, 0.061))
    hump = solids.box((0.036, 0.03, 0.016), 0.004).moved((0, 0, 0.073))
    parts = [(body, [skin, skin, screen, front, silver, BLACK]), (plate, [silver]), (hump, [silver])]
    for radius, depth, colour in ((0.024, 0.02, BLACK), (0.021, 0.032, (70, 70, 74)), (0.022, 0.04, BLACK)):
        barrel = rod(radius, depth, 40).moved(turn=(90, 0, 0)).moved((0.008, -0.017, 0.032))
        parts.append((barrel, [colour, colour, (52, 50, 84)]))
    glass = solids.superquadric((0.032, 0.008, 0.032), 1, 1, 32).moved((0.008, -0.057, 0.032))
    parts.append((glass, [(52, 50, 84)]))
    for x, radius, colour in (
        (-0.045, 0.008, (190, 40, 40)),
        (0.044, 0.011, (60, 60, 64)),
        (-0.027, 0.005, silver),
    ):
        parts.append((rod(radius, 0.01, 24).moved((x, 0.002, 0.066)), [colour]))
    return Model(paint(parts))


def toy_house() -> Model:
    """A wooden house with a door, windows, a tiled roof and a chimney."""
    wall = (238, 214, 160)
    sides = [textures.plain(wall, 180, 220) for _ in range(4)]
    for k, image in enumerate(sides):
        for x in ((0.1, 0.6), (0.35,), (0.12, 0.42, 0.72), (0.62,))[k]:
            textures.rectangle(image, (x - 0.02, 0.2, x + 0.22, 0.62), (110, 66, 40))
            textures.rectangle(image, (x, 0.24, x + 0.2, 0.58), (150, 205, 225))
            textures.rectangle(image, (x + 0.09, 0.24, x + 0.11, 0.58), (110, 66, 40))
    textures.rectangle(sides[3], (0.14, 0.3, 0.4, 1), (60, 110, 80))
    textures.ellipse(sides[3], (0.33, 0.62, 0.37, 0.68), (240, 200, 70))
    textures.write(sides[3], "7", (0.24, 0.4, 0.3, 0.54), WHITE, weight=2)
    shingles = textures.plain((168, 66, 52), 160, 256)
    for row in range(8):
        for column in range(14):
            x, y = (column + 0.5 * (row % 2)) / 13, row / 8
            shade = 0.75 + 0.25 * ((row * 7 + column * 5) % 8) / 7
            colour = np.array((190, 78, 60)) * shade
            textures.ellipse(shingles, (x - 0.04, y - 0.06, x + 0.036, y + 0.11), colour)
    body = solids.box((0.1, 0.078, 0.07)).moved((0, 0, 0.035))
    eaves = np.array([(-0.052, 0), (0.052, 0), (0, 0.045)])
    roof = solids.extrude(eaves, 0.116).moved(turn=(90, 0, 90)).moved((-0.058, 0, 0.0695))
    chimney = solids.box((0.016, 0.018, 0.05)).moved((0.028, 0.016, 0.1))
    faces = [sides[0], sides[1], sides[2], sides[3], wall, (120, 90, 60)]
    gable = [shingles, (225, 190, 120), (225, 190, 120)]
    return Model(paint([(body, faces), (roof, gable), (chimney, [(120, 62, 54)])]))


def remote_control() -> Model:
    """A slim black remote with coloured keys."""
    top = textures.plain((34, 35, 40), 480, 140)
    textures.ellipse(top, (0.1, 0.04, 0.3, 0.1), (205, 40, 40))
    for row in range(4):
        for column in range(3):
            x, y = 0.12 + 0.28 * column, 0.16 + 0.075 * row
            textures.rectangle(top, (x, y, x + 0.2, y + 0.045), (165, 168, 175))
            textures.write(
                top, str((3 * row + column + 1) % 10), (x + 0.07, y + 0.005, x + 0.13, y + 0.04), BLACK
            )
    for radius, grey in ((0.36, 95), (0.2, 40), (0.12, 150)):
        textures.ellipse(
            top, (0.5 - radius, 0.6 - 0.29 * radius, 0.5 + radius, 0.6 + 0.29 * radius), (grey,) * 3
        )
    for x, colour in (
        (0.1, (200, 50, 50)),
        (0.31, (60, 150, 70)),
        (0.52, (225, 190, 50)),
        (0.73, (60, 90, 190)),
    ):
        textures.rectangle(top, (x, 0.76, x + 0.16, 0.785), colour)
    textures.write(top, "VISTA", (0.3, 0.9, 0.7, 0.94), (200, 200, 205), weight=1)
    shell = solids.box((0.046, 0.165, 0.02), 0.006)
    grey = (34, 35, 40)
    window = solids.box((0.02, 0.004, 0.01), 0.001).moved((0, 0.0815, 0))
    return Model(paint([(shell, [grey, grey, grey, grey, top, (52, 53, 58)]), (window, [(70, 16, 30)])]))


def detergent_jug() -> Model:
    """A square jug with a side handle, a label and a big cap."""
    rng = np.random.default_rng(38)
    label = textures.plain((228, 96, 24), 330, 520)
    # A turn of three eighths from the seam (+x) begins the back, seven eighths the front.
    textures.polygon(label, np.array([(0.55, 0.2), (0.97, 0.12), (0.95, 0.72), (0.58, 0.8)]), (250, 240, 90))
    textures.write(label, "ZAPP", (0.61, 0.26, 0.92, 0.52), (30, 50, 140), weight=5)
    textures.write(label, "ultra clean", (0.64, 0.58, 0.88, 0.67), (200, 40, 50), weight=1)
    textures.rectangle(label, (0.12, 0.2, 0.42, 0.75), (250, 245, 235))
    textures.fine_print(rng, label, (0.14, 0.25, 0.4, 0.7), (30, 50, 140), 9)
    square = solids.superellipse(0.078, 0.06, 5)
    profile = np.array([(0.94, 0), (1, 0.006), (1, 0.105), (0.8, 0.128), (0.36, 0.146), (0.36, 0.152)])
    body = solids.revolve(profile, outline=square, surfaces=[1, 0, 1, 1, 1])
    grip = handle(
        [(0.02, 0, 0.14), (0.05, 0, 0.138), (0.057, 0, 0.11), (0.052, 0, 0.07), (0.034, 0, 0.055)],
        0.016,
        0.013,
    )
    cap = rod(0.0185, 0.024, 24).moved((0, 0, 0.15))
    orange = (228, 96, 24)
    return Model(paint([(body, [label, orange, orange, orange]), (grip, [orange]), (cap, [(30, 50, 140)])]))


def banana() -> Model:
    """A bent fruit whose colour runs from green to yellow, without texture."""
    angle = np.radians(np.linspace(-62, 62, 28))
    path = np.stack([0.095 * np.sin(angle), np.zeros_like(angle), -0.095 * np.cos(angle) + 0.095], axis=1)
    t = np.linspace(0, 1, len(path))
    girth = np.interp(
        t, [0, 0.04, 0.12, 0.45, 0.8, 0.93, 0.96, 1], [0.25, 0.4, 0.72, 1, 0.85, 0.4, 0.27, 0.3]
    )
    five = solids.circle(0.0185, 30) * (1 + 0.05 * np.cos(5 * np.arange(30) * 2 * np.pi / 30))[:, None]
    rings = solids.sweep(path, five, scale=girth)
    share = rings.uv[:, :, 1].mean(axis=1)
    stops = [0, 0.05, 0.06, 0.2, 0.8, 0.92, 1]
    shades = np.array(
        [
            (50, 38, 26),
            (60, 48, 30),
            (150, 150, 50),
            (232, 196, 60),
            (236, 204, 72),
            (150, 165, 60),
            (90, 96, 50),
        ]
    )
    surface = np.where(rings.surface == 0, (share * 27).astype(int), rings.surface + 26)
    ramp = [[np.interp(k / 27, stops, shades[:, c]) for c in range(3)] for k in range(27)]
    painted = solids.Solid(rings.corners, rings.uv, surface)
    return Model(paint([(painted, [*ramp, (50, 38, 26), (90, 96, 50)])]))


def torch() -> Model:
    """A rubber torch with a wide head, a switch and a wrist loop."""
    profile = [(0.015, 0), (0.0165, 0.004), (0.0165, 0.1), (0.027, 0.122), (0.029, 0.128), (0.029, 0.15)]
    body = solids.revolve(np.array([*profile, (0.026, 0.152)]), surfaces=[0, 1, 2, 0, 0, 0])
    glass = rod(0.024, 0.003, 40).moved((0, 0, 0.1505))
    switch = solids.box((0.01, 0.008, 0.018), 0.003).moved((0, -0.017, 0.085))
    clip = handle([(0.012, 0, 0.006), (0.026, 0, 0.012), (0.028, 0, 0.05), (0.0165, 0, 0.062)], 0.009, 0.003)
    black, lime = (36, 37, 40), (150, 190, 40)
    parts = [
        (body, [black, lime, black, black, STEEL]),
        (glass, [(240, 240, 215)]),
        (switch, [(220, 60, 40)]),
    ]
    return Model(paint([*parts, (clip, [STEEL])]))


ALL = (
    teapot,
    book,
    vase,
    hex_nut,
    camera,
    toy_house,
    remote_control,
    detergent_jug,
    banana,
    torch,
)
