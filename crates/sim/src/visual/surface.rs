//! Smooth shells: shapes that melt into each other, turned into a triangle mesh.
//!
//! A shell is the zero level of a signed distance: negative inside, positive outside, in metres. Shapes are joined by
//! a smooth minimum, so a tube flows into a joint as cast metal does. The mesh comes from naive surface nets (S. F.
//! Gibson, "Constrained elastic surface nets", 1998): one vertex for each cell of a grid that the surface crosses, one
//! quad for each crossed edge. Vertices are then pulled onto the surface and get its exact normals, so a coarse grid
//! still looks smooth.

use bevy::{
    asset::RenderAssetUsages,
    math::{EulerRot, Quat, Vec3},
    mesh::{Indices, Mesh, PrimitiveTopology},
};
use serde::{Deserialize, Serialize};

/// One shape of a shell. Lengths in metres, in the frame of the link.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Shape {
    /// A ball swept along a line, with a radius at each end: a capsule, or a tapered one.
    Capsule {
        /// Center of the first ball.
        from: [f32; 3],
        /// Center of the last ball.
        to: [f32; 3],
        /// Radius of the first ball.
        radius: f32,
        /// Radius of the last ball; the same as the first when left out.
        end_radius: Option<f32>,
        /// Take it away from what came before instead of adding it.
        #[serde(default)]
        carve: bool,
    },
    /// A cylinder with rounded rims.
    Cylinder {
        /// Center of one end face.
        from: [f32; 3],
        /// Center of the other.
        to: [f32; 3],
        /// Radius.
        radius: f32,
        /// Radius of the rims.
        #[serde(default)]
        rounding: f32,
        /// Take it away from what came before instead of adding it.
        #[serde(default)]
        carve: bool,
    },
    /// A box with rounded edges.
    Box {
        /// Center.
        center: [f32; 3],
        /// Half extents, rounding included.
        half_extents: [f32; 3],
        /// Roll, pitch and yaw about fixed axes, degrees.
        #[serde(default)]
        turn_degrees: [f32; 3],
        /// Radius of the edges.
        #[serde(default)]
        rounding: f32,
        /// Take it away from what came before instead of adding it.
        #[serde(default)]
        carve: bool,
    },
}

/// Rotation from roll, pitch and yaw about fixed axes, degrees.
pub(super) fn rotation(turn_degrees: [f32; 3]) -> Quat {
    let [roll, pitch, yaw] = turn_degrees.map(f32::to_radians);
    Quat::from_euler(EulerRot::ZYX, yaw, pitch, roll)
}

impl Shape {
    /// Signed distance from `p`, metres.
    fn distance(&self, p: Vec3) -> f32 {
        match self {
            Self::Capsule { from, to, radius, end_radius, .. } => {
                let (a, b) = (Vec3::from(*from), Vec3::from(*to));
                let axis = b - a;
                let t = ((p - a).dot(axis) / axis.length_squared().max(f32::EPSILON)).clamp(0.0, 1.0);
                let end = end_radius.unwrap_or(*radius);
                (p - a - axis * t).length() - (radius + (end - radius) * t)
            }
            Self::Cylinder { from, to, radius, rounding, .. } => {
                let (a, b) = (Vec3::from(*from), Vec3::from(*to));
                let direction = (b - a).normalize_or(Vec3::Z);
                let half = 0.5 * (b - a).length();
                let q = p - 0.5 * (a + b);
                let along = q.dot(direction);
                let out = (q - direction * along).length() - radius + rounding;
                let over = along.abs() - half + rounding;
                out.max(over).min(0.0) + out.max(0.0).hypot(over.max(0.0)) - rounding
            }
            Self::Box { center, half_extents, turn_degrees, rounding, .. } => {
                let q = rotation(*turn_degrees).inverse() * (p - Vec3::from(*center));
                let d = q.abs() - (Vec3::from(*half_extents) - Vec3::splat(*rounding));
                d.max_element().min(0.0) + d.max(Vec3::ZERO).length() - rounding
            }
        }
    }

    /// Corners of a box around it.
    fn bounds(&self) -> (Vec3, Vec3) {
        match self {
            Self::Capsule { from, to, radius, end_radius, .. } => {
                let (a, b) = (Vec3::from(*from), Vec3::from(*to));
                let r = Vec3::splat(radius.max(end_radius.unwrap_or(0.0)));
                (a.min(b) - r, a.max(b) + r)
            }
            Self::Cylinder { from, to, radius, .. } => {
                let (a, b) = (Vec3::from(*from), Vec3::from(*to));
                let r = Vec3::splat(*radius);
                (a.min(b) - r, a.max(b) + r)
            }
            Self::Box { center, half_extents, .. } => {
                let r = Vec3::splat(Vec3::from(*half_extents).length());
                (Vec3::from(*center) - r, Vec3::from(*center) + r)
            }
        }
    }

    fn is_carved(&self) -> bool {
        match self {
            Self::Capsule { carve, .. } | Self::Cylinder { carve, .. } | Self::Box { carve, .. } => *carve,
        }
    }
}

/// Shapes melted into one shell.
#[derive(Debug, Clone)]
pub struct Shell<'a> {
    /// The shapes, in order: a carved one takes away from those before it.
    pub shapes: &'a [Shape],
    /// Over which distance shapes flow into each other, metres.
    pub blend: f32,
    /// Edge of a grid cell, metres.
    pub cell: f32,
}

impl Shell<'_> {
    /// Signed distance from `p`, metres. An estimate where shapes melt, exact in sign.
    fn distance(&self, p: Vec3) -> f32 {
        /// Carved edges are broken by this much, as those of a moulded part are, metres.
        const CARVE_BLEND: f32 = 0.006;
        let mut distance = f32::MAX;
        for shape in self.shapes {
            let d = shape.distance(p);
            distance = if shape.is_carved() {
                -smooth_min(-distance, d, CARVE_BLEND)
            } else if distance == f32::MAX {
                d
            } else {
                smooth_min(distance, d, self.blend)
            };
        }
        distance
    }

    /// Direction in which the distance grows fastest, of length one.
    fn normal(&self, p: Vec3) -> Vec3 {
        const STEP: f32 = 3e-4;
        let along = |axis: Vec3| self.distance(p + axis * STEP) - self.distance(p - axis * STEP);
        Vec3::new(along(Vec3::X), along(Vec3::Y), along(Vec3::Z)).normalize_or(Vec3::Z)
    }

    /// The triangle mesh, with normals. Empty shells give an empty mesh.
    #[must_use]
    pub fn mesh(&self) -> Mesh {
        let (positions, indices) = self.nets();
        let normals: Vec<[f32; 3]> = positions.iter().map(|p| self.normal(*p).into()).collect();
        let uvs: Vec<[f32; 2]> = positions.iter().map(|p| [p.x, p.y]).collect();
        let positions: Vec<[f32; 3]> = positions.into_iter().map(Into::into).collect();
        Mesh::new(PrimitiveTopology::TriangleList, RenderAssetUsages::default())
            .with_inserted_attribute(Mesh::ATTRIBUTE_POSITION, positions)
            .with_inserted_attribute(Mesh::ATTRIBUTE_NORMAL, normals)
            .with_inserted_attribute(Mesh::ATTRIBUTE_UV_0, uvs)
            .with_inserted_indices(Indices::U32(indices))
    }

    fn nets(&self) -> (Vec<Vec3>, Vec<u32>) {
        let cell = self.cell.max(1e-3);
        let added = self.shapes.iter().filter(|shape| !shape.is_carved()).map(Shape::bounds);
        let Some((low, high)) = added.reduce(|(a, b), (c, d)| (a.min(c), b.max(d))) else { return Default::default() };
        let margin = Vec3::splat(2.0 * cell + 0.5 * self.blend);
        let (low, high) = (low - margin, high + margin);
        let [nx, ny, nz] = ((high - low) / cell).ceil().as_uvec3().to_array().map(|n| n as usize + 1);
        let at = |x: usize, y: usize, z: usize| low + cell * Vec3::new(x as f32, y as f32, z as f32);
        let index = |x: usize, y: usize, z: usize| (z * ny + y) * nx + x;

        let mut samples = Vec::with_capacity(nx * ny * nz);
        for z in 0..nz {
            for y in 0..ny {
                samples.extend((0..nx).map(|x| self.distance(at(x, y, z))));
            }
        }
        let sample = |x: usize, y: usize, z: usize| samples.get(index(x, y, z)).copied().unwrap_or(f32::MAX);

        const NONE: u32 = u32::MAX;
        let mut vertex_of_cell = vec![NONE; nx * ny * nz];
        let mut positions = Vec::new();
        for z in 0..nz - 1 {
            for y in 0..ny - 1 {
                for x in 0..nx - 1 {
                    let corner = |c: usize| {
                        let (x, y, z) = (x + (c & 1), y + (c >> 1 & 1), z + (c >> 2));
                        (at(x, y, z), sample(x, y, z))
                    };
                    let (mut sum, mut crossings) = (Vec3::ZERO, 0.0);
                    for c in 0..8usize {
                        for axis in [1usize, 2, 4] {
                            if c & axis != 0 {
                                continue;
                            }
                            let ((pa, a), (pb, b)) = (corner(c), corner(c | axis));
                            if (a < 0.0) != (b < 0.0) {
                                sum += pa.lerp(pb, a / (a - b));
                                crossings += 1.0;
                            }
                        }
                    }
                    if crossings > 0.0
                        && let Some(slot) = vertex_of_cell.get_mut(index(x, y, z))
                    {
                        *slot = positions.len() as u32;
                        positions.push(self.pulled(sum / crossings));
                    }
                }
            }
        }

        let vertex = |x: usize, y: usize, z: usize| vertex_of_cell.get(index(x, y, z)).copied().unwrap_or(NONE);
        let mut indices = Vec::new();
        for z in 1..nz - 1 {
            for y in 1..ny - 1 {
                for x in 1..nx - 1 {
                    let inside = sample(x, y, z) < 0.0;
                    // The four cells around each of the three edges that leave this corner forwards.
                    let quads = [
                        (sample(x + 1, y, z), [(x, y - 1, z - 1), (x, y, z - 1), (x, y, z), (x, y - 1, z)]),
                        (sample(x, y + 1, z), [(x - 1, y, z - 1), (x - 1, y, z), (x, y, z), (x, y, z - 1)]),
                        (sample(x, y, z + 1), [(x - 1, y - 1, z), (x, y - 1, z), (x, y, z), (x - 1, y, z)]),
                    ];
                    for (other, cells) in quads {
                        if inside == (other < 0.0) {
                            continue;
                        }
                        let [a, b, c, d] = cells.map(|(x, y, z)| vertex(x, y, z));
                        if [a, b, c, d].contains(&NONE) {
                            continue;
                        }
                        indices.extend(if inside { [a, b, c, a, c, d] } else { [a, c, b, a, d, c] });
                    }
                }
            }
        }
        (positions, indices)
    }

    /// `p` moved onto the surface.
    fn pulled(&self, mut p: Vec3) -> Vec3 {
        for _ in 0..4 {
            let distance = self.distance(p).clamp(-self.cell, self.cell);
            p -= self.normal(p) * distance;
        }
        p
    }
}

/// The smaller of two distances, with a fillet over `blend` metres where they meet (I. Quilez' quadratic form).
fn smooth_min(a: f32, b: f32, blend: f32) -> f32 {
    if blend <= 0.0 {
        return a.min(b);
    }
    let h = (blend - (a - b).abs()).max(0.0) / blend;
    a.min(b) - 0.25 * h * h * blend
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    fn ball() -> Shape {
        Shape::Capsule { from: [0.0; 3], to: [0.0, 0.0, 0.001], radius: 0.05, end_radius: None, carve: false }
    }

    #[test]
    fn a_shell_is_closed_faces_outwards_and_lies_on_its_surface() {
        let shapes = [
            ball(),
            Shape::Cylinder { from: [0.0; 3], to: [0.2, 0.0, 0.0], radius: 0.03, rounding: 0.005, carve: false },
        ];
        let shell = Shell { shapes: &shapes, blend: 0.02, cell: 0.006 };
        let (positions, indices) = shell.nets();
        assert!(positions.len() > 500);
        for p in &positions {
            assert!(shell.distance(*p).abs() < 5e-4, "{p} is {} m off", shell.distance(*p));
        }
        // Closed: every edge is walked once in each direction.
        let mut edges: Vec<(u32, u32)> = Vec::new();
        let mut volume = 0.0;
        for t in indices.chunks_exact(3) {
            edges.extend([(t[0], t[1]), (t[1], t[2]), (t[2], t[0])]);
            let [a, b, c] = [t[0], t[1], t[2]].map(|i| positions[i as usize]);
            volume += a.dot(b.cross(c)) / 6.0;
        }
        let mut reversed: Vec<_> = edges.iter().map(|(a, b)| (*b, *a)).collect();
        edges.sort_unstable();
        reversed.sort_unstable();
        assert_eq!(edges, reversed);
        // A ball and a tube that sticks out of it: the sign says outwards, the size that nothing is missing.
        assert!((9e-4..1.05e-3).contains(&volume), "{volume}");
    }

    #[test]
    fn carving_takes_away() {
        let hole = Shape::Capsule { from: [0.0; 3], to: [0.0, 0.0, 0.2], radius: 0.02, end_radius: None, carve: true };
        let shapes = [ball(), hole];
        let shell = Shell { shapes: &shapes, blend: 0.0, cell: 0.005 };
        assert!(shell.distance(Vec3::new(0.0, 0.0, 0.03)) > 0.0);
        assert!(shell.distance(Vec3::new(0.0, 0.0, -0.03)) < 0.0);
    }

    #[test]
    fn nothing_gives_nothing() {
        let (positions, indices) = Shell { shapes: &[], blend: 0.0, cell: 0.005 }.nets();
        assert!(positions.is_empty() && indices.is_empty());
    }
}
