// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package browsertest

import (
	"bufio"
	"errors"
	"fmt"
	"image"
	"image/color"
	"os"
)

// The camera's picture; what is smaller is put in its middle, what is larger
// is shrunk.
const (
	videoWidth  = 1280
	videoHeight = 720
	videoFrames = 4 // of each picture
)

func blank() image.Image { return image.NewUniform(color.Gray{0x60}) }

// writeVideo writes a YUV4MPEG2 file, which Chromium's fake camera plays again
// and again.
func writeVideo(path string, pictures ...image.Image) (err error) {
	if len(pictures) == 0 {
		return errors.New("no picture")
	}
	f, err := os.Create(path) //nolint:gosec // a scratch file
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriterSize(f, 1<<20)
	// Errors stay in w until Flush.
	_, _ = fmt.Fprintf(w, "YUV4MPEG2 W%d H%d F20:1 Ip A1:1 C420jpeg\n", videoWidth, videoHeight)
	for _, picture := range pictures {
		luma := frame(picture)
		chroma := make([]byte, videoWidth*videoHeight/2)
		for i := range chroma {
			chroma[i] = 0x80
		}
		for range videoFrames {
			_, _ = w.WriteString("FRAME\n")
			_, _ = w.Write(luma)
			_, _ = w.Write(chroma)
		}
	}
	return w.Flush()
}

// frame returns a picture as the camera's brightness values.
func frame(picture image.Image) []byte {
	luma := make([]byte, videoWidth*videoHeight)
	b := picture.Bounds()
	scale := max(float64(b.Dx())/videoWidth, float64(b.Dy())/videoHeight, 1)
	left := (videoWidth - float64(b.Dx())/scale) / 2
	top := (videoHeight - float64(b.Dy())/scale) / 2
	if _, endless := picture.(*image.Uniform); endless {
		scale, left, top = 1, 0, 0
	}
	edge := grey(picture, b.Min.X, b.Min.Y)
	for y := range videoHeight {
		for x := range videoWidth {
			at := image.Pt(b.Min.X+int((float64(x)-left)*scale), b.Min.Y+int((float64(y)-top)*scale))
			v := edge
			if at.In(b) && float64(x) >= left && float64(y) >= top {
				v = grey(picture, at.X, at.Y)
			}
			luma[y*videoWidth+x] = v
		}
	}
	return luma
}

func grey(picture image.Image, x, y int) byte {
	return color.GrayModel.Convert(picture.At(x, y)).(color.Gray).Y
}
