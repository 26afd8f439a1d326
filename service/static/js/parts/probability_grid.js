/**
 * The probability of the second label over a plane, interpolated between the points of a grid.
 *
 * The log-odds are interpolated, not the probability: in a ReLU network they are piecewise linear.
 */

const EPSILON = 1e-6; // clips probabilities, so that their log-odds are finite

export class ProbabilityGrid {
  /** `values` are size * size probabilities, in rows from low y to high y, with the corners. */
  constructor({ x, y, size, values }) {
    Object.assign(this, { x, y, size });
    this.odds = Float32Array.from(values, (value) => {
      const p = Math.min(Math.max(value, EPSILON), 1 - EPSILON);
      return Math.log(p / (1 - p));
    });
  }

  at([x, y]) {
    const last = this.size - 1;
    const column = last * fraction(x, this.x);
    const row = last * fraction(y, this.y);
    return probability(this.#odds(column, row));
  }

  /** Where the probability is 0.5, as segments `[[x, y], [x, y]]`. */
  boundary() {
    const segments = [];
    for (let row = 0; row + 1 < this.size; row++) {
      for (let column = 0; column + 1 < this.size; column++) {
        const ends = this.#crossings(column, row);
        for (let at = 0; at + 1 < ends.length; at += 2) segments.push([ends[at], ends[at + 1]]);
      }
    }
    return segments;
  }

  /** Fill an ImageData; `color(probability)` is the `[red, green, blue]` of a pixel. */
  fill(image, color) {
    const { width, height, data } = image;
    const last = this.size - 1;
    for (let line = 0, at = 0; line < height; line++) {
      const row = last * (1 - (line + 0.5) / height); // an image starts at its top: high y
      for (let pixel = 0; pixel < width; pixel++, at += 4) {
        const column = (last * (pixel + 0.5)) / width;
        data.set(color(probability(this.#odds(column, row))), at);
        data[at + 3] = 255;
      }
    }
  }

  #odds(column, row) {
    const left = Math.min(Math.floor(column), this.size - 2);
    const low = Math.min(Math.floor(row), this.size - 2);
    const right = column - left;
    const up = row - low;
    const at = low * this.size + left;
    const below = this.odds[at] * (1 - right) + this.odds[at + 1] * right;
    const above = this.odds[at + this.size] * (1 - right) + this.odds[at + this.size + 1] * right;
    return below * (1 - up) + above * up;
  }

  /** Where the boundary crosses the edges of a cell: zero, two or four points. */
  #crossings(column, row) {
    const corners = [
      [0, 0],
      [1, 0],
      [1, 1],
      [0, 1],
    ];
    const found = [];
    corners.forEach(([i, j], at) => {
      const [k, l] = corners[(at + 1) % 4];
      const from = this.odds[(row + j) * this.size + column + i];
      const to = this.odds[(row + l) * this.size + column + k];
      if (from < 0 === to < 0) return;
      const share = from / (from - to);
      found.push(this.#point(column + i + share * (k - i), row + j + share * (l - j)));
    });
    return found;
  }

  #point(column, row) {
    const last = this.size - 1;
    return [interpolate(this.x, column / last), interpolate(this.y, row / last)];
  }
}

/** The points of such a grid, in the order of `values`. */
export function gridPoints({ x, y }, size) {
  const rows = [];
  for (let row = 0; row < size; row++) {
    for (let column = 0; column < size; column++) {
      rows.push([interpolate(x, column / (size - 1)), interpolate(y, row / (size - 1))]);
    }
  }
  return rows;
}

const interpolate = ([low, high], share) => low + share * (high - low);
const fraction = (value, [low, high]) => Math.min(Math.max((value - low) / (high - low), 0), 1);
const probability = (odds) => 1 / (1 + Math.exp(-odds));
