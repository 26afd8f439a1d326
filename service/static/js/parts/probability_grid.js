/**
 * The probability of the second label over a plane, known on a grid and read anywhere.
 *
 * Between the points of the grid the log-odds are taken as linear: that is what they are in a
 * network of ReLUs, where the probability itself bends.
 */

const SURE = 1e-6; // how far from 0 and 1 a probability is kept, so that its log-odds are finite

export class Field {
  /** `values` are size * size probabilities, rows from low y to high y, corners included. */
  constructor({ x, y, size, values }) {
    Object.assign(this, { x, y, size });
    this.odds = Float32Array.from(values, (value) => {
      const p = Math.min(Math.max(value, SURE), 1 - SURE);
      return Math.log(p / (1 - p));
    });
  }

  /** The probability at a point. */
  at([x, y]) {
    const last = this.size - 1;
    const column = last * within(x, this.x);
    const row = last * within(y, this.y);
    return probability(this.#odds(column, row));
  }

  /** Where the probability is a half: segments `[[x, y], [x, y]]`. */
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

  /** Paint a picture, `paint(probability)` giving each pixel its `[red, green, blue]`. */
  image(image, paint) {
    const { width, height, data } = image;
    const last = this.size - 1;
    for (let line = 0, at = 0; line < height; line++) {
      const row = last * (1 - (line + 0.5) / height); // the picture begins at high y
      for (let pixel = 0; pixel < width; pixel++, at += 4) {
        const column = (last * (pixel + 0.5)) / width;
        data.set(paint(probability(this.#odds(column, row))), at);
        data[at + 3] = 255;
      }
    }
    return image;
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

  /** Where the boundary enters and leaves one cell of the grid: no points, two or four. */
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
    return [between(this.x, column / last), between(this.y, row / last)];
  }
}

/** The points of such a grid, as rows of a request. */
export function grid({ x, y }, size) {
  const rows = [];
  for (let row = 0; row < size; row++) {
    for (let column = 0; column < size; column++) {
      rows.push([between(x, column / (size - 1)), between(y, row / (size - 1))]);
    }
  }
  return rows;
}

const between = ([low, high], share) => low + share * (high - low);
const within = (value, [low, high]) => Math.min(Math.max((value - low) / (high - low), 0), 1);
const probability = (odds) => 1 / (1 + Math.exp(-odds));
