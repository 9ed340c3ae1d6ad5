//! Meshes with crisp outlines: turned parts and boxes with rounded edges.

use std::f32::consts::TAU;

use bevy::{
    asset::RenderAssetUsages,
    math::{Quat, Vec2, Vec3},
    mesh::{Indices, Mesh, PrimitiveTopology},
};

/// A part made on a lathe: `profile` turned about the axis through `origin`.
///
/// `profile` is a row of `[radius, height]` points in metres, from one end of the axis to the other. Its corners stay
/// sharp; put points close together for a rounded rim.
#[must_use]
pub fn lathe(origin: Vec3, axis: Vec3, profile: &[[f32; 2]]) -> Mesh {
    const SEGMENTS: u32 = 48;
    let turn = Quat::from_rotation_arc(Vec3::Z, axis.normalize_or(Vec3::Z));
    let mut builder = Builder::default();
    for (from, to) in profile.iter().zip(profile.iter().skip(1)) {
        let (from, to) = (Vec2::from(*from), Vec2::from(*to));
        let along = to - from;
        if along.length_squared() < 1e-12 {
            continue;
        }
        // Outwards is to the right of the way from the lower end to the upper one.
        let slope = Vec2::new(along.y, -along.x).normalize_or(Vec2::X);
        let first = builder.positions.len() as u32;
        for segment in 0..=SEGMENTS {
            let (sin, cos) = (TAU * segment as f32 / SEGMENTS as f32).sin_cos();
            let place = |p: Vec2| origin + turn * Vec3::new(p.x * cos, p.x * sin, p.y);
            let normal = turn * Vec3::new(slope.x * cos, slope.x * sin, slope.y);
            let u = segment as f32 / SEGMENTS as f32;
            builder.vertex(place(from), normal, Vec2::new(u, from.y));
            builder.vertex(place(to), normal, Vec2::new(u, to.y));
        }
        for segment in 0..SEGMENTS {
            let a = first + 2 * segment;
            builder.indices.extend([a, a + 2, a + 1, a + 1, a + 2, a + 3]);
        }
    }
    builder.mesh()
}

/// A box around the origin with edges of radius `rounding`, metres. Texture coordinates are metres too.
#[must_use]
pub fn rounded_box(half_extents: Vec3, rounding: f32) -> Mesh {
    /// Steps along a rounded edge.
    const ARC: usize = 5;
    let rounding = rounding.clamp(0.0, half_extents.min_element());
    let core = half_extents - Vec3::splat(rounding);
    // Along one edge of a face: an arc, the flat stretch, an arc; as angles from the middle of the face and as offsets.
    let mut row: Vec<(f32, f32)> = Vec::new();
    for step in 0..=ARC {
        row.push((-1.0, -std::f32::consts::FRAC_PI_4 * (1.0 - step as f32 / ARC as f32)));
    }
    let mirrored: Vec<_> = row.iter().rev().map(|(side, angle)| (-side, -angle)).collect();
    row.extend(mirrored);

    let faces = [
        (Vec3::X, Vec3::Y, Vec3::Z),
        (Vec3::NEG_X, Vec3::Z, Vec3::Y),
        (Vec3::Y, Vec3::Z, Vec3::X),
        (Vec3::NEG_Y, Vec3::X, Vec3::Z),
        (Vec3::Z, Vec3::X, Vec3::Y),
        (Vec3::NEG_Z, Vec3::Y, Vec3::X),
    ];
    let mut builder = Builder::default();
    for (out, right, up) in faces {
        let first = builder.positions.len() as u32;
        for (v_side, v_angle) in &row {
            for (u_side, u_angle) in &row {
                let normal = (out + right * u_angle.tan() + up * v_angle.tan()).normalize_or(out);
                let position = core * (out + right * *u_side + up * *v_side) + normal * rounding;
                builder.vertex(position, normal, Vec2::new(position.dot(right), position.dot(up)));
            }
        }
        let n = row.len() as u32;
        for v in 0..n - 1 {
            for u in 0..n - 1 {
                let a = first + v * n + u;
                builder.indices.extend([a, a + 1, a + n, a + n, a + 1, a + n + 1]);
            }
        }
    }
    builder.mesh()
}

#[derive(Default)]
struct Builder {
    positions: Vec<[f32; 3]>,
    normals: Vec<[f32; 3]>,
    uvs: Vec<[f32; 2]>,
    indices: Vec<u32>,
}

impl Builder {
    fn vertex(&mut self, position: Vec3, normal: Vec3, uv: Vec2) {
        self.positions.push(position.into());
        self.normals.push(normal.into());
        self.uvs.push(uv.into());
    }

    fn mesh(self) -> Mesh {
        Mesh::new(PrimitiveTopology::TriangleList, RenderAssetUsages::default())
            .with_inserted_attribute(Mesh::ATTRIBUTE_POSITION, self.positions)
            .with_inserted_attribute(Mesh::ATTRIBUTE_NORMAL, self.normals)
            .with_inserted_attribute(Mesh::ATTRIBUTE_UV_0, self.uvs)
            .with_inserted_indices(Indices::U32(self.indices))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests fail by panicking")]
mod tests {
    use super::*;
    use bevy::mesh::VertexAttributeValues;

    fn vectors(mesh: &Mesh, attribute: bevy::mesh::MeshVertexAttribute) -> Vec<Vec3> {
        match mesh.attribute(attribute) {
            Some(VertexAttributeValues::Float32x3(values)) => values.iter().copied().map(Vec3::from).collect(),
            _ => panic!("no such attribute"),
        }
    }

    /// Volume by the divergence theorem; also checks that triangles and normals agree.
    fn volume(mesh: &Mesh) -> f32 {
        let positions = vectors(mesh, Mesh::ATTRIBUTE_POSITION);
        let normals = vectors(mesh, Mesh::ATTRIBUTE_NORMAL);
        let indices: Vec<usize> = mesh.indices().unwrap().iter().collect();
        let mut volume = 0.0;
        for t in indices.chunks_exact(3) {
            let [a, b, c] = [positions[t[0]], positions[t[1]], positions[t[2]]];
            let face = (b - a).cross(c - a);
            if face.length() > 1e-9 {
                assert!(face.normalize().dot(normals[t[0]]) > 0.3, "a triangle faces away from its normal");
            }
            volume += a.dot(b.cross(c)) / 6.0;
        }
        volume
    }

    #[test]
    fn a_rounded_box_has_its_size() {
        let half = Vec3::new(0.4, 0.3, 0.02);
        let mesh = rounded_box(half, 0.004);
        let highest = vectors(&mesh, Mesh::ATTRIBUTE_POSITION).into_iter().reduce(Vec3::max).unwrap();
        assert!((highest - half).length() < 1e-6);
        assert!((volume(&mesh) / (8.0 * half.x * half.y * half.z) - 1.0).abs() < 0.01);
    }

    #[test]
    fn a_turned_cylinder_has_its_volume() {
        let mesh = lathe(Vec3::ZERO, Vec3::X, &[[0.0, 0.0], [0.05, 0.0], [0.05, 0.2], [0.0, 0.2]]);
        let expected = std::f32::consts::PI * 0.05 * 0.05 * 0.2;
        assert!((volume(&mesh) / expected - 1.0).abs() < 0.01);
    }
}
