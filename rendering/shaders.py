"""The renderer's GLSL programs, one for each combination of features.

Software drivers run every line for every pixel, so a program contains only what its images need. Rows are
drawn top-down (image row 0 is the framebuffer's row 0), so that arrays need no flip when read.
"""

from dataclasses import dataclass

MAX_LIGHTS = 8

_VERTEX = """
uniform mat4 cam_from_obj;
uniform mat3 clip_from_cam;  // x and y of the clip space from the camera's
uniform float near;
in vec3 position;
out float z;
#ifdef COLOR
in vec3 color;
out vec3 v_color;
#endif
#ifdef TEXTURED
in vec3 uv;
out vec3 v_uv;
#endif
#ifdef LIT
in vec3 normal;
out vec3 v_position;
out vec3 v_normal;
#endif

void main() {
    vec3 point = (cam_from_obj * vec4(position, 1.0)).xyz;
    z = point.z;
    // Depth 1 - 2 near / z: nothing is too far, and what is clipped lies before the near plane.
    gl_Position = vec4((clip_from_cam * point).xy, point.z - 2.0 * near, point.z);
#ifdef COLOR
    v_color = color;
#endif
#ifdef TEXTURED
    v_uv = uv;
#endif
#ifdef LIT
    v_position = point;
    v_normal = mat3(cam_from_obj) * normal;
#endif
}
"""

_FRAGMENT = """
in float z;
#ifdef TEXTURED
// Sharper mipmaps: 40 % closer to a supersampled image of a real texture, and no worse on white noise.
const float LOD_BIAS = -0.7;
uniform sampler2DArray layers;
in vec3 v_uv;
#endif
#ifdef LIT
uniform int n_lights;
uniform vec4 light_at[MAX_LIGHTS];  // w = 1: a position; 0: the direction towards the light
uniform vec3 light_color[MAX_LIGHTS];
in vec3 v_position;
in vec3 v_normal;

const float SPECULAR = 0.2;
const float SHININESS = 32.0;

void shade(inout vec3 diffuse, inout vec3 specular) {
    vec3 to_camera = -normalize(v_position);
    vec3 normal = v_normal / max(length(v_normal), 1e-6);
    normal = dot(normal, to_camera) < 0.0 ? -normal : normal;  // surfaces are two-sided
    for (int i = 0; i < n_lights; i++) {
        vec3 to_light = normalize(light_at[i].xyz - light_at[i].w * v_position);
        float cosine = max(dot(normal, to_light), 0.0);
        vec3 halfway = normalize(to_light + to_camera + 1e-6);
        diffuse += light_color[i] * cosine;
        specular += SPECULAR * light_color[i] * cosine * pow(max(dot(normal, halfway), 0.0), SHININESS);
    }
}
#endif
#ifdef COLOR
uniform vec3 ambient;
uniform float instance;
in vec3 v_color;
layout(location = 0) out vec4 rgb;
#ifdef FACES
layout(location = 1) out float face;
#else
layout(location = 1) out vec2 depth_and_id;
#endif

void main() {
    vec3 albedo = v_color;
    vec3 diffuse = ambient;
    vec3 specular = vec3(0.0);
#ifdef TEXTURED
    vec3 texel = texture(layers, vec3(v_uv.x, 1.0 - v_uv.y, max(v_uv.z, 0.0)), LOD_BIAS).rgb;
    albedo *= v_uv.z < -0.5 ? vec3(1.0) : texel;
#endif
#ifdef LIT
    shade(diffuse, specular);
#endif
    rgb = vec4(albedo * diffuse + specular, 1.0);
#ifdef FACES
    face = float(gl_PrimitiveID) + 1.0;
#else
    depth_and_id = vec2(z, instance + 1.0);
#endif
}
#else
layout(location = 0) out float depth;

void main() {
    depth = z;
}
#endif
"""


@dataclass(frozen=True)
class Features:
    """What a program draws; depth only, if without colour."""

    color: bool = False
    textured: bool = False
    lit: bool = False
    faces: bool = False  # numbers of triangles in place of depth and instance


def sources(features: Features) -> dict[str, str]:
    """Keywords for `moderngl.Context.program`."""
    names = [name for name in ("color", "textured", "lit", "faces") if getattr(features, name)]
    head = "".join(f"#define {name.upper()}\n" for name in names)
    head = f"#version 330\n#define MAX_LIGHTS {MAX_LIGHTS}\n{head}"
    return {"vertex_shader": head + _VERTEX, "fragment_shader": head + _FRAGMENT}
