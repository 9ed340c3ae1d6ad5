//! Paths as tubes with a colour at every point.

use bevy::{
    asset::RenderAssetUsages,
    mesh::{Indices, PrimitiveTopology},
    prelude::*,
};

/// A point of a tube.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TubePoint {
    /// Where.
    pub position: Vec3,
    /// Metres.
    pub radius: f32,
    /// Colour and opacity.
    pub color: LinearRgba,
}

/// Several tubes and balls in one mesh, with colours at their corners.
#[derive(Debug, Clone, Default)]
pub struct TubeMesh {
    positions: Vec<[f32; 3]>,
    normals: Vec<[f32; 3]>,
    colors: Vec<[f32; 4]>,
    indices: Vec<u32>,
}

/// Corners around a tube.
const SIDES: u32 = 8;
/// Rings of a ball.
const BALL_RINGS: u32 = 6;

impl TubeMesh {
    /// Adds a tube through these points, open at its ends. Fewer than two points give nothing.
    pub fn tube(&mut self, points: &[TubePoint]) {
        let mut side = Vec3::X;
        let mut rings = 0;
        for (index, point) in points.iter().enumerate() {
            let before = points.get(index.saturating_sub(1)).unwrap_or(point);
            let after = points.get(index + 1).unwrap_or(point);
            let along = (after.position - before.position).normalize_or(Vec3::Y);
            // The last direction that was found, turned as little as possible: a tube does not twist.
            side = (side - along * side.dot(along)).try_normalize().unwrap_or_else(|| along.any_orthonormal_vector());
            let other = along.cross(side);
            for corner in 0..SIDES {
                let angle = std::f32::consts::TAU * corner as f32 / SIDES as f32;
                let normal = side * angle.cos() + other * angle.sin();
                self.corner(point.position + normal * point.radius, normal, point.color);
            }
            rings += 1;
            if rings > 1 {
                self.connect(SIDES);
            }
        }
    }

    /// Adds a ball.
    pub fn ball(&mut self, center: Vec3, radius: f32, color: LinearRgba) {
        for ring in 0..=BALL_RINGS {
            let polar = std::f32::consts::PI * ring as f32 / BALL_RINGS as f32;
            for corner in 0..SIDES {
                let angle = std::f32::consts::TAU * corner as f32 / SIDES as f32;
                let normal = Vec3::new(polar.sin() * angle.cos(), polar.cos(), polar.sin() * angle.sin());
                self.corner(center + normal * radius, normal, color);
            }
            if ring > 0 {
                self.connect(SIDES);
            }
        }
    }

    fn corner(&mut self, position: Vec3, normal: Vec3, color: LinearRgba) {
        // Light from above, painted on, so that a tube looks round wherever the lamps of a scene stand.
        let shade = 0.80 + 0.20 * normal.y;
        self.positions.push(position.to_array());
        self.normals.push(normal.to_array());
        self.colors.push([color.red * shade, color.green * shade, color.blue * shade, color.alpha]);
    }

    /// Connects the last two rings.
    fn connect(&mut self, sides: u32) {
        let end = u32::try_from(self.positions.len()).unwrap_or(u32::MAX);
        let (before, last) = (end - 2 * sides, end - sides);
        for corner in 0..sides {
            let next = (corner + 1) % sides;
            self.indices.extend([before + corner, last + next, last + corner]);
            self.indices.extend([before + corner, before + next, last + next]);
        }
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// The mesh.
    #[must_use]
    pub fn build(self) -> Mesh {
        Mesh::new(PrimitiveTopology::TriangleList, RenderAssetUsages::RENDER_WORLD)
            .with_inserted_attribute(Mesh::ATTRIBUTE_POSITION, self.positions)
            .with_inserted_attribute(Mesh::ATTRIBUTE_NORMAL, self.normals)
            .with_inserted_attribute(Mesh::ATTRIBUTE_COLOR, self.colors)
            .with_inserted_indices(Indices::U32(self.indices))
    }
}

/// Points on a smooth curve through `points` (Catmull–Rom), `pieces` for each stretch.
#[must_use]
pub fn smooth(points: &[Vec3], pieces: u32) -> Vec<Vec3> {
    let Some(first) = points.first() else { return Vec::new() };
    let at = |index: isize| {
        let index = index.clamp(0, points.len() as isize - 1);
        usize::try_from(index).ok().and_then(|index| points.get(index)).copied().unwrap_or(*first)
    };
    let mut curve = vec![*first];
    for stretch in 0..points.len() as isize - 1 {
        let [a, b, c, d] = [stretch - 1, stretch, stretch + 1, stretch + 2].map(at);
        for piece in 1..=pieces.max(1) {
            let t = piece as f32 / pieces.max(1) as f32;
            let curved = (2.0 * a - 5.0 * b + 4.0 * c - d) * t * t + (3.0 * b - a - 3.0 * c + d) * t * t * t;
            curve.push(0.5 * (2.0 * b + (c - a) * t + curved));
        }
    }
    curve
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_curve_goes_through_its_points() {
        let points = [Vec3::ZERO, Vec3::X, Vec3::new(1.0, 1.0, 0.0), Vec3::new(2.0, 1.0, 3.0)];
        let curve = smooth(&points, 4);
        assert_eq!(curve.len(), 13);
        for (index, point) in points.iter().enumerate() {
            assert!(curve[4 * index].distance(*point) < 1e-5);
        }
        assert!(smooth(&[], 4).is_empty());
        assert_eq!(smooth(&[Vec3::X], 4), [Vec3::X]);
    }

    #[test]
    fn a_tube_lies_around_its_points_and_faces_outwards() {
        let point = |x: f32| TubePoint { position: Vec3::X * x, radius: 0.1, color: LinearRgba::WHITE };
        let mut tube = TubeMesh::default();
        tube.tube(&[point(0.0)]);
        assert!(tube.indices.is_empty());
        let mut tube = TubeMesh::default();
        tube.tube(&[point(0.0), point(0.5), point(1.0)]);
        tube.ball(Vec3::X * 3.0, 0.2, LinearRgba::WHITE);
        for (position, normal) in tube.positions.iter().zip(&tube.normals) {
            let (position, normal) = (Vec3::from(*position), Vec3::from(*normal));
            let off = if position.x < 2.0 {
                (position.with_x(0.0).length() - 0.1).abs()
            } else {
                (position.distance(Vec3::X * 3.0) - 0.2).abs()
            };
            assert!(off < 1e-5 && (normal.length() - 1.0).abs() < 1e-5);
        }
        for triangle in tube.indices.chunks_exact(3) {
            let [a, b, c] = [0, 1, 2].map(|k| Vec3::from(tube.positions[triangle[k] as usize]));
            let outward =
                Vec3::from(tube.normals[triangle[0] as usize]) + Vec3::from(tube.normals[triangle[2] as usize]);
            let face = (b - a).cross(c - a);
            // At the poles of a ball two corners are one.
            assert!(face.length() < 1e-7 || face.dot(outward) > 0.0, "{a} {b} {c}");
        }
    }
}
